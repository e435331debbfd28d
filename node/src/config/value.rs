//! Typed values of configuration keys: what is accepted, and how it reads back.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use domain::{NodeId, Place};

/// A value as written, before it has a type.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    /// A TOML string.
    Text(String),
    /// A TOML integer.
    Integer(i128),
    /// A TOML boolean.
    Flag(bool),
    /// A TOML table of strings.
    Table(BTreeMap<String, String>),
    /// An environment variable: text that may stand for any type.
    Variable(String),
    /// Anything no key accepts; the kind is named.
    Other(&'static str),
}

impl Raw {
    fn text(&self) -> Option<&str> {
        match self {
            Raw::Text(text) | Raw::Variable(text) => Some(text),
            Raw::Integer(_) | Raw::Flag(_) | Raw::Table(_) | Raw::Other(_) => None,
        }
    }

    fn integer(&self) -> Option<i128> {
        match self {
            Raw::Integer(number) => Some(*number),
            Raw::Variable(text) => text.trim().parse().ok(),
            Raw::Text(_) | Raw::Flag(_) | Raw::Table(_) | Raw::Other(_) => None,
        }
    }
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Raw::Text(text) | Raw::Variable(text) => write!(f, "{text:?}"),
            Raw::Integer(number) => write!(f, "{number}"),
            Raw::Flag(flag) => write!(f, "{flag}"),
            Raw::Table(_) => f.write_str("a table"),
            Raw::Other(kind) => f.write_str(kind),
        }
    }
}

/// Something a key can hold.
pub trait Value: Sized {
    /// What to write instead of a wrong value: completes "write …".
    const ACCEPTS: &'static str;

    /// Reads it; `None` when it is not what [`Value::ACCEPTS`] says.
    fn read(raw: &Raw) -> Option<Self>;

    /// The value of a key that is not set; `None` when the key has a default instead.
    fn unset() -> Option<Self> {
        None
    }
}

impl<T: Value> Value for Option<T> {
    const ACCEPTS: &'static str = T::ACCEPTS;

    fn read(raw: &Raw) -> Option<Self> {
        T::read(raw).map(Some)
    }

    fn unset() -> Option<Self> {
        Some(None)
    }
}

impl Value for bool {
    const ACCEPTS: &'static str = "true or false";

    fn read(raw: &Raw) -> Option<Self> {
        match raw {
            Raw::Flag(flag) => Some(*flag),
            Raw::Variable(text) => text.trim().parse().ok(),
            Raw::Text(_) | Raw::Integer(_) | Raw::Table(_) | Raw::Other(_) => None,
        }
    }
}

/// A count of at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub u64);

impl Value for Count {
    const ACCEPTS: &'static str = "a whole number of at least 1";

    fn read(raw: &Raw) -> Option<Self> {
        u64::try_from(raw.integer()?).ok().filter(|count| *count > 0).map(Count)
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl Value for ByteSize {
    const ACCEPTS: &'static str = "a size such as \"64MiB\", \"2GiB\" or a number of bytes";

    fn read(raw: &Raw) -> Option<Self> {
        if let Some(number) = raw.integer() {
            return u64::try_from(number).ok().map(ByteSize);
        }
        let (number, unit) = split_unit(raw.text()?)?;
        let factor = match unit {
            "B" => 1,
            "kB" | "KB" => 1000,
            "MB" => 1000 * 1000,
            "GB" => 1000 * 1000 * 1000,
            "TB" => 1_000_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return None,
        };
        number.checked_mul(factor).map(ByteSize)
    }
}

/// Bytes per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bandwidth(pub u64);

impl Value for Bandwidth {
    const ACCEPTS: &'static str = "a rate such as \"100MiB/s\"";

    fn read(raw: &Raw) -> Option<Self> {
        let size = raw.text()?.trim().strip_suffix("/s")?;
        ByteSize::read(&Raw::Text(size.to_owned())).filter(|rate| rate.0 > 0).map(|rate| Bandwidth(rate.0))
    }
}

/// A duration written with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Span {
    /// Unit: milliseconds.
    pub fn as_ms(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Value for Span {
    const ACCEPTS: &'static str = "a duration such as \"24h\", \"15min\", \"30s\" or \"500ms\"";

    fn read(raw: &Raw) -> Option<Self> {
        let (number, unit) = split_unit(raw.text()?)?;
        let unit_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60 * 1000,
            "h" => 60 * 60 * 1000,
            "d" => 24 * 60 * 60 * 1000,
            _ => return None,
        };
        number.checked_mul(unit_ms).map(|ms| Span(Duration::from_millis(ms)))
    }
}

/// Milliseconds, for keys that end in `_ms_max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Millis(pub u64);

impl Value for Millis {
    const ACCEPTS: &'static str = "a number of milliseconds or a duration such as \"3s\"";

    fn read(raw: &Raw) -> Option<Self> {
        if let Some(number) = raw.integer() {
            return u64::try_from(number).ok().map(Millis);
        }
        Span::read(raw).and_then(|span| u64::try_from(span.0.as_millis()).ok()).map(Millis)
    }
}

impl Value for SocketAddr {
    const ACCEPTS: &'static str = "an IP address and a port such as \"127.0.0.1:5000\" or \"[::]:5000\"";

    fn read(raw: &Raw) -> Option<Self> {
        raw.text()?.trim().parse().ok()
    }
}

/// `host:port` as others dial it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort(pub String);

impl HostPort {
    /// Parses `host:port`, the port from 1.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port_is_good = port.parse::<u16>().is_ok_and(|port| port > 0);
        let host_is_good = !host.is_empty() && !host.contains(['/', ' ', '@']);
        (port_is_good && host_is_good).then(|| HostPort(text.to_owned()))
    }

    /// Whether it can only mean this machine.
    pub fn is_loopback(&self) -> bool {
        let host = self.0.rsplit_once(':').map_or(self.0.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl Value for HostPort {
    const ACCEPTS: &'static str = "a host and a port such as \"paris.example.com:7000\"";

    fn read(raw: &Raw) -> Option<Self> {
        HostPort::parse(raw.text()?.trim())
    }
}

/// Dial addresses by node id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Via(pub BTreeMap<NodeId, String>);

impl Value for Via {
    const ACCEPTS: &'static str =
        "a table from node id to address such as { 2 = \"10.0.0.2:7000\" } (environment: \"2=10.0.0.2:7000,3=…\")";

    fn read(raw: &Raw) -> Option<Self> {
        let pairs: Vec<(String, String)> = match raw {
            Raw::Table(table) => table.iter().map(|(node, address)| (node.clone(), address.clone())).collect(),
            Raw::Variable(text) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                let split = |item: &str| item.split_once('=').map(|(a, b)| (a.trim().to_owned(), b.trim().to_owned()));
                items.map(split).collect::<Option<Vec<_>>>()?
            }
            Raw::Text(_) | Raw::Integer(_) | Raw::Flag(_) | Raw::Other(_) => return None,
        };
        let parse = |(node, address): (String, String)| {
            let node = node.parse::<u64>().ok().filter(|node| *node > 0)?;
            HostPort::parse(&address).map(|address| (NodeId(node), address.0))
        };
        pairs.into_iter().map(parse).collect::<Option<BTreeMap<_, _>>>().map(Via)
    }
}

impl Value for PathBuf {
    const ACCEPTS: &'static str = "a path such as \"/var/lib/longshore\"";

    fn read(raw: &Raw) -> Option<Self> {
        raw.text().filter(|text| !text.is_empty()).map(PathBuf::from)
    }
}

/// A registry's URL as clients reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(pub String);

impl Value for Url {
    const ACCEPTS: &'static str = "a URL without a path such as \"https://paris.registry.example.com\"";

    fn read(raw: &Raw) -> Option<Self> {
        let text = raw.text()?.trim().trim_end_matches('/');
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
        let good = !rest.is_empty() && !rest.contains(['/', '?', '#', '@', ' ']);
        good.then(|| Url(text.to_owned()))
    }
}

/// A place on earth: `"latitude,longitude"` in degrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(pub Place);

impl Value for Position {
    const ACCEPTS: &'static str = "latitude and longitude in degrees such as \"48.86,2.35\"";

    fn read(raw: &Raw) -> Option<Self> {
        let (latitude, longitude) = raw.text()?.split_once(',')?;
        let micros = |text: &str, most: f64| {
            let degrees: f64 = text.trim().parse().ok()?;
            // The range check makes the conversion exact: at most 180,000,000 in magnitude.
            (degrees.abs() <= most).then(|| (degrees * 1e6).round() as i32)
        };
        Some(Position(Place { latitude_micros: micros(latitude, 90.0)?, longitude_micros: micros(longitude, 180.0)? }))
    }
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    Some((text[..digits].parse().ok()?, text[digits..].trim_start()))
}

/// Declares an enum of fixed words.
macro_rules! choice {
    ($(#[doc = $doc:literal])* $name:ident, $accepts:literal, { $($(#[doc = $word_doc:literal])* $word:ident = $text:literal),+ $(,)? }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[doc = $word_doc])* $word),+ }

        impl Value for $name {
            const ACCEPTS: &'static str = $accepts;

            fn read(raw: &Raw) -> Option<Self> {
                match raw.text()?.trim() {
                    $($text => Some($name::$word),)+
                    _ => None,
                }
            }
        }
    };
}

choice!(
    /// Settings that suit the round trips between the regions.
    Profile, "\"lan\" or \"wan\"", {
        /// A few milliseconds.
        Lan = "lan",
        /// 50 to 250 ms.
        Wan = "wan",
    }
);
choice!(
    /// What a manifest HEAD gets that cannot be proved fresh.
    StaleHead, "\"serve\" or \"refuse\"", {
        /// Local state, marked.
        Serve = "serve",
        /// 503.
        Refuse = "refuse",
    }
);
choice!(
    /// How log lines look.
    LogFormat, "\"text\" or \"json\"", {
        /// For people.
        Text = "text",
        /// One object per line.
        Json = "json",
    }
);

/// What is logged: a level or per-module directives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLevel(pub String);

impl Value for LogLevel {
    const ACCEPTS: &'static str = "error, warn, info, debug, trace, or directives such as \"info,metadata=debug\"";

    fn read(raw: &Raw) -> Option<Self> {
        let text = raw.text()?.trim();
        let known = |word: &str| matches!(word, "error" | "warn" | "info" | "debug" | "trace" | "off");
        let good = |item: &str| known(item.rsplit_once('=').map_or(item, |(_, level)| level).trim());
        (!text.is_empty() && text.split(',').all(good)).then(|| LogLevel(text.to_owned()))
    }
}
