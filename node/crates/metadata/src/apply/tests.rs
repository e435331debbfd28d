//! The rules of `apply`, one by one, over a world that is easy to read.

#[allow(dead_code, reason = "grows with the tests")]
mod world;

use world::World;

#[test]
fn nothing_is_applied_before_genesis() {
    let mut world = World::unborn();
    let outcome = world.tick(1000);
    assert!(world::is_refused(&outcome), "{outcome:?}");
    assert!(world.view().meta().unwrap().is_none());
}
