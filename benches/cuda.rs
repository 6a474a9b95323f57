//! The host's time to issue one operation to a driver: `cargo bench --bench cuda`.
//!
//! Against the tests' stand-in, whose calls cost about as much as a real driver's fast path (a lock, a queue), or with
//! `REQUIRE_GPU=1` against a real one. The figure is the executor's own: the median pass, start to end of issuing.

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on has failed")]
#![expect(clippy::print_stdout, reason = "its figures are its answer")]
#![expect(unsafe_code, reason = "the stand-in is a C library")]
#![allow(dead_code, reason = "the tests use the rest")]

#[path = "../tests/cuda/driver.rs"]
mod driver;
#[path = "../tests/cuda/models.rs"]
mod models;

use vramplan::backend::cuda::{Cuda, Options, Pattern, Work};
use vramplan::backend::{Backend, Discard};
use vramplan_standin as _;

fn main() {
    let session = driver::session();
    let request = models::wide(50);
    let plan = request.plan().expect("a plan");
    let (program, images) = models::lowered_for(&plan, &request.manifest);
    let operations = program.phases[0].schedule.ops.len() as u64;
    let pattern = Pattern { seed: 0 };
    println!("{:<12}{:>12}{:>16}{:>16}", "timed", "operations", "per operation", "per pass");
    for sample in [0, 1] {
        let options = Options { work: Work::Spin, sample, ..Options::default() };
        let cuda = Cuda::new(session.gpu(), &images, &pattern, options);
        cuda.run(&program, &mut Discard::default()).expect("a run");
        let each = cuda.measured().issue_per_operation;
        let pass = each.saturating_mul(operations);
        let timed = if sample == 0 { "no" } else { "every pass" };
        println!("{timed:<12}{operations:>12}{:>16}{:>16}", each.human(), pass.human());
    }
}
