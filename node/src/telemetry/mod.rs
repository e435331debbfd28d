//! Logs and metrics.

mod lines;
mod metrics;

pub use lines::{Identity, start_logs};
pub use metrics::{METRICS, Metric, Metrics, markdown_table};
