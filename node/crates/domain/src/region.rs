//! Regions as people name them.

use std::fmt;
use std::sync::Arc;

use crate::digest::clip;
use crate::limits::REGION_NAME_BYTES_MAX;

/// A region's name: lower-case letters, digits and inner dashes. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionName(Arc<str>);

/// Why a region name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("region name `{text}` is not 1 to {REGION_NAME_BYTES_MAX} lower-case letters, digits and inner dashes")]
pub struct Error {
    /// The beginning of what was given.
    pub text: String,
}

impl RegionName {
    /// Parses a name.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let bytes = text.as_bytes();
        let good = !bytes.is_empty()
            && bytes.len() <= REGION_NAME_BYTES_MAX
            && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
            && bytes.first() != Some(&b'-')
            && bytes.last() != Some(&b'-');
        if good { Ok(RegionName(text.into())) } else { Err(Error { text: clip(text) }) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RegionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RegionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a region stands. Unit: millionths of a degree, so that rows hold no floating point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Latitude.
    pub latitude_micros: i32,
    /// Longitude.
    pub longitude_micros: i32,
}
