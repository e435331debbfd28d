//! The encoding of values: a version byte, then fields in order; integers big-endian, lengths as u32.

use domain::{Digest, Revision};

/// Bytes that are not what this release writes: truncated, too long, or of another version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bad(pub(crate) &'static str);

/// A value of the state file.
pub(crate) trait Row: Sized {
    /// Version byte written, and the only one read at this format level.
    const VERSION: u8 = 1;

    /// Writes the fields.
    fn write(&self, to: &mut Writer);

    /// Reads the fields.
    fn read(from: &mut Reader<'_>) -> Result<Self, Bad>;

    /// The whole value.
    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer(Vec::with_capacity(64));
        writer.u8(Self::VERSION);
        self.write(&mut writer);
        writer.0
    }

    /// Reads a whole value.
    fn decode(value: &[u8]) -> Result<Self, Bad> {
        let mut reader = Reader(value);
        if reader.u8()? != Self::VERSION {
            return Err(Bad("version byte is not known"));
        }
        let row = Self::read(&mut reader)?;
        if reader.0.is_empty() { Ok(row) } else { Err(Bad("bytes follow the last field")) }
    }
}

/// Appends fields.
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.0.push(u8::from(value));
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn raw(&mut self, value: &[u8]) {
        self.0.extend_from_slice(value);
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.u32(u32::try_from(value.len()).expect("no field of a row comes near 4 GiB: commands are bounded"));
        self.raw(value);
    }

    pub(crate) fn str(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    pub(crate) fn digest(&mut self, value: &Digest) {
        self.u8(value.algorithm() as u8);
        self.raw(value.raw());
    }

    pub(crate) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(crate) fn list<T>(&mut self, values: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.u32(u32::try_from(values.len()).expect("no list of a row comes near 2^32: commands are bounded"));
        for value in values {
            write(self, value);
        }
    }
}

/// Takes fields off the front.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn raw(&mut self, length: usize) -> Result<&'a [u8], Bad> {
        let (front, rest) = self.0.split_at_checked(length).ok_or(Bad("value ends early"))?;
        self.0 = rest;
        Ok(front)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Bad> {
        let mut array = [0; N];
        array.copy_from_slice(self.raw(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Bad> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn bool(&mut self) -> Result<bool, Bad> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Bad("flag is neither 0 nor 1")),
        }
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Bad> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, Bad> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Bad> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    pub(crate) fn revision(&mut self) -> Result<Revision, Bad> {
        self.u64().map(Revision)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Bad> {
        let length = self.u32()? as usize;
        self.raw(length)
    }

    pub(crate) fn str(&mut self) -> Result<&'a str, Bad> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Bad("text is not UTF-8"))
    }

    pub(crate) fn string(&mut self) -> Result<String, Bad> {
        self.str().map(str::to_owned)
    }

    pub(crate) fn digest(&mut self) -> Result<Digest, Bad> {
        let (digest, rest) = Digest::split_key(self.0).map_err(|_| Bad("digest is malformed"))?;
        self.0 = rest;
        Ok(digest)
    }

    pub(crate) fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Bad>) -> Result<Option<T>, Bad> {
        if self.bool()? { read(self).map(Some) } else { Ok(None) }
    }

    pub(crate) fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Result<T, Bad>) -> Result<Vec<T>, Bad> {
        let length = self.u32()?;
        // A damaged length must not reserve memory: grow as elements are really there.
        let mut values = Vec::with_capacity(length.min(256) as usize);
        for _ in 0..length {
            values.push(read(self)?);
        }
        Ok(values)
    }
}
