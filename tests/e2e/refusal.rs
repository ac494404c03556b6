//! Every refusal of a client certificate, in both failure modes.

use crate::world::World;

#[test]
fn a_good_certificate_is_admitted() {
    World::start().unwrap().still_serves().unwrap();
}
