//! The host harness: plan, image, boot, wait, collect, verify, publish.
fn main() {}
