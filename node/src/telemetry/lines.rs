//! Log lines: one per thing that happened, with the node's region and id on each, as text or JSON.

use std::fmt::{self, Write as _};
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt as layer};

use crate::config::LogFormat;

/// Region and node, put on every line once they are known. Cheap to clone.
#[derive(Clone, Default)]
pub struct Identity(Arc<OnceLock<(String, u64)>>);

impl Identity {
    /// Says who the node is; later calls change nothing.
    pub fn set(&self, region: &str, node: u64) {
        self.0.get_or_init(|| (region.to_owned(), node));
    }
}

/// Starts logging to standard error. Call once.
pub fn start_logs(format: LogFormat, level: &str, identity: Identity) {
    let filter = EnvFilter::try_new(directives(level)).unwrap_or_else(|_| EnvFilter::new(QUIET));
    let registry = tracing_subscriber::registry().with(filter);
    let base = layer::layer().with_writer(std::io::stderr).with_ansi(false);
    let started = match format {
        LogFormat::Text => registry.with(base.event_format(TextLines(identity))).try_init(),
        LogFormat::Json => registry.with(base.fmt_fields(JsonFields).event_format(JsonLines(identity))).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logs were started before");
    }
}

/// Libraries speak of their own affairs; what matters of them is logged by the room that owns the library.
const QUIET: &str = "info,openraft=off,sled=error,h2=error,hyper=error,tonic=error";

/// The directives of a level: libraries keep quiet unless they are named.
fn directives(level: &str) -> String {
    let mut directives = level.to_owned();
    for library in QUIET.split(',').skip(1) {
        let name = library.split('=').next().unwrap_or(library);
        if !level.split(',').any(|part| part.trim().starts_with(name)) {
            directives = format!("{directives},{library}");
        }
    }
    directives
}

struct TextLines(Identity);

impl<S, N> FormatEvent<S, N> for TextLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        SystemTime.format_time(&mut line)?;
        write!(line, " {}", event.metadata().level())?;
        let mut fields = TextVisitor::default();
        event.record(&mut fields);
        if let Some((region, node)) = self.0.0.get() {
            // An event that speaks of a region or node itself says whose it is.
            if !fields.pairs.contains(" region=") {
                write!(line, " region={region}")?;
            }
            if !fields.pairs.contains(" node=") {
                write!(line, " node={node}")?;
            }
        }
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            if let Some(fields) = extensions.get::<FormattedFields<N>>().filter(|fields| !fields.is_empty()) {
                write!(line, " {fields}")?;
            }
        }
        writeln!(line, "{} {:?}", fields.pairs, fields.message)
    }
}

#[derive(Default)]
struct TextVisitor {
    message: String,
    pairs: String,
}

impl Visit for TextVisitor {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else if value.is_empty() || value.contains([' ', '"', '=', '\n']) {
            let _infallible = write!(self.pairs, " {}={value:?}", field.name());
        } else {
            let _infallible = write!(self.pairs, " {}={value}", field.name());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

struct JsonLines(Identity);

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let mut fields = Map::new();
        fields.insert("time".to_owned(), Value::from(time));
        fields.insert("level".to_owned(), Value::from(event.metadata().level().as_str().to_ascii_lowercase()));
        fields.insert("target".to_owned(), Value::from(event.metadata().target()));
        if let Some((region, node)) = self.0.0.get() {
            fields.insert("region".to_owned(), Value::from(region.as_str()));
            fields.insert("node".to_owned(), Value::from(*node));
        }
        for span in context.event_scope().into_iter().flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let Some(recorded) = extensions.get::<FormattedFields<N>>() else { continue };
            for part in recorded.fields.lines() {
                if let Ok(Value::Object(part)) = serde_json::from_str(part) {
                    fields.extend(part);
                }
            }
        }
        event.record(&mut JsonVisitor(&mut fields));
        writeln!(line, "{}", Value::Object(fields))
    }
}

/// Fields of spans as one JSON object per record call, a line each.
struct JsonFields;

impl<'writer> FormatFields<'writer> for JsonFields {
    fn format_fields<R: tracing_subscriber::field::RecordFields>(
        &self,
        mut writer: Writer<'writer>,
        fields: R,
    ) -> fmt::Result {
        let mut map = Map::new();
        fields.record(&mut JsonVisitor(&mut map));
        writeln!(writer, "{}", Value::Object(map))
    }
}

struct JsonVisitor<'a>(&'a mut Map<String, Value>);

impl Visit for JsonVisitor<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        let value = u64::try_from(value).map_or_else(|_| Value::from(value.to_string()), Value::from);
        self.0.insert(field.name().to_owned(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), Value::from(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), Value::from(format!("{value:?}")));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn identity() -> Identity {
        let identity = Identity::default();
        identity.set("tokyo", 3);
        identity
    }

    fn say_something() {
        let span = tracing::info_span!("request", request_id = "r-1");
        let _inside = span.enter();
        let nobody: Option<u64> = None;
        let wait = std::time::Duration::from_millis(250);
        tracing::info!(
            peer = "virginia",
            bytes = 81_264_640_u64,
            wait_ms = wait.as_millis(),
            leader = nobody,
            error = "it broke",
            "blob fetched"
        );
    }

    #[test]
    fn text_lines_begin_with_who_and_end_with_what() {
        let sink = Sink::default();
        let writer = sink.clone();
        let base = layer::layer().with_writer(move || writer.clone()).with_ansi(false);
        let subscriber = tracing_subscriber::registry().with(base.event_format(TextLines(identity())));
        tracing::subscriber::with_default(subscriber, say_something);
        let line = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let (_time, rest) = line.split_once(' ').unwrap();
        let expected = "INFO region=tokyo node=3 request_id=\"r-1\" peer=virginia bytes=81264640 wait_ms=250 error=\"it broke\" \"blob fetched\"\n";
        assert_eq!(rest, expected);
    }

    #[test]
    fn libraries_are_quiet_unless_they_are_named() {
        assert_eq!(directives("info"), QUIET);
        assert!(directives("debug").contains(",openraft=off"), "its errors on a plain stop are none of ours");
        let named = directives("debug, openraft=info");
        assert!(named.starts_with("debug, openraft=info,sled=error"), "{named}");
        assert!(!named.contains("openraft=off"), "{named}");
    }

    #[test]
    fn json_lines_are_objects_with_the_same_words() {
        let sink = Sink::default();
        let writer = sink.clone();
        let base = layer::layer().with_writer(move || writer.clone()).with_ansi(false);
        let base = base.fmt_fields(JsonFields).event_format(JsonLines(identity()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(base), say_something);
        let line = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let mut value: Value = serde_json::from_str(&line).unwrap();
        assert!(value["time"].as_str().unwrap().contains('T'));
        value.as_object_mut().unwrap().remove("time");
        value.as_object_mut().unwrap().remove("target");
        let expected = serde_json::json!({
            "level": "info", "region": "tokyo", "node": 3, "request_id": "r-1",
            "peer": "virginia", "bytes": 81_264_640, "wait_ms": 250, "error": "it broke", "message": "blob fetched",
        });
        assert_eq!(value, expected);
    }
}
