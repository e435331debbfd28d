//! The registry's HTTP door over real rooms: the rows of the distribution specification, on one region, and once more
//! on three with every request sent to the next one. The answers must be the same.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod fail_over;
mod limits;
mod rows_blobs;
mod rows_lists;
mod rows_manifests;
mod rows_records;
mod rows_uploads;
mod world;

use std::time::Duration;

use node::http::Settings;
use world::{Manner, World};

async fn every_row(world: &World) {
    rows_blobs::all(world).await;
    rows_uploads::all(world).await;
    rows_manifests::all(world).await;
    rows_lists::all(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_region_keeps_every_row() {
    let world = World::start(1).await;
    every_row(&world).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closing_put_is_answered_though_its_copy_gave_way() {
    let world = World::start(1).await;
    rows_records::given_way(&world).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_post_leaves_nothing() {
    let world = World::start(1).await;
    rows_records::refused(&world).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_owner_is_not_waited_for_where_the_answer_is_known() {
    let registry = registry::Config { owner_wait_max: Duration::from_mins(10), ..registry::Config::default() };
    let world = World::start_as(2, Manner { registry, ..Manner::default() }).await;
    rows_uploads::closed_without_the_owner(&world).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_are_begun_through_a_fail_over() {
    let manner = Manner { failover_wait_ms_max: Some(60_000), ..Manner::default() };
    let world = World::start_as(3, manner).await;
    fail_over::begun_without_a_leader(&world).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_waits_for_no_quorum() {
    let manner = Manner { failover_wait_ms_max: Some(u64::from(u32::MAX)), ..Manner::default() };
    let world = World::start_as(2, manner).await;
    fail_over::begun_while_the_node_stops(&world).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_that_was_sent_is_not_called_undone() {
    let world = World::start(2).await;
    rows_uploads::cancelled_at_a_silent_owner(&world).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_without_a_row_are_swept_again_and_again() {
    let replication = replication::Config { sweep_after_ms: 200, ..replication::Config::default() };
    let world = World::start_as(1, Manner { replication, ..Manner::default() }).await;
    rows_records::swept(&world).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold() {
    let settings = Settings { requests_max: 2, body_idle_max: Duration::from_millis(500), ..Settings::default() };
    let world = World::start_with(1, settings).await;
    limits::all(&world).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_regions_answer_as_one() {
    let world = World::start(3).await;
    every_row(&world).await;
    rows_manifests::a_tag_that_moves(&world).await;
    rows_manifests::blobs_of_another_region(&world).await;
    rows_uploads::owner_gone(&world).await;
    limits::alone(&world).await;
    world.stop().await;
}
