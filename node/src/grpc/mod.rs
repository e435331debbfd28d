//! The peer door: gRPC between nodes and from `cluster-cli`.

mod refusal;
mod server;
mod server_join;
mod server_leader;
mod server_leave;
mod server_status;
mod server_tags;
mod switch;

pub use server::AdminService;
pub use switch::Switch;
