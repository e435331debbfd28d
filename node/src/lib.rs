//! Floor 6, the roof: doors (HTTP, gRPC), configuration, telemetry and the wiring of the rooms below.
//!
//! Nothing here decides what the registry does; it opens the rooms in order, lets requests in and takes the house down
//! in order. The binary is `longshore-node`.

pub mod arguments;
pub mod assemble;
pub mod config;
pub mod grpc;
pub mod health;
pub mod http;
pub mod phase;
pub mod rooms;
pub mod run;
pub mod status;
pub mod telemetry;
