//! `balancer PORT LOG REGION...`: the balancer of the tests as a program, for clients that are programs too.
//!
//! It listens on the loopback port, hands every request to the next region, and appends a line to the log for each:
//! region, method, path and query, status. It runs until it is ended.

use std::fs::File;
use std::io::Write;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use tests::balancer::Balancer;

const USAGE: &str = "usage: balancer PORT LOG HOST:PORT...";

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().and_then(|port| port.parse().ok());
    let (Some(port), Some(log), regions @ [_, ..]) = (port, arguments.next(), &arguments.collect::<Vec<_>>()[..])
    else {
        eprintln!("{USAGE}");
        return ExitCode::from(64);
    };
    let file = match File::options().create(true).append(true).open(&log) {
        Ok(file) => Mutex::new(file),
        Err(error) => {
            eprintln!("error: {log} cannot be opened: {error}");
            return ExitCode::from(74);
        }
    };
    let witness = move |region: &str, method: &http::Method, uri: &http::Uri, status: http::StatusCode| {
        let line = format!("{region} {method} {uri} {}\n", status.as_u16());
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line.as_bytes()).expect("the log takes a line");
    };
    let balancer = Balancer::listen_on(port, regions.to_vec(), Some(Box::new(witness))).await;
    println!("{}", balancer.address());
    std::future::pending().await
}
