//! Logs and metrics.

mod lines;
mod metrics;
mod requests;

pub use lines::{Identity, start_logs};
pub use metrics::{Kind, METRICS, Metric, Metrics, markdown_table};
pub use requests::counted;
