//! The time of each case: `cargo bench --package hookgate-micro`, with the name of a case after `--` for that one.
//!
//! On a shared machine the times are noise. `cargo xtask count` guards the number of instructions instead.

use criterion::{BatchSize, Bencher, Criterion};
use hookgate_micro::{ALL, Repeat};

struct Timed<'a, 'b>(&'a mut Bencher<'b>);

impl Repeat for Timed<'_, '_> {
    fn repeat(&mut self, prepare: &mut dyn FnMut(), operation: &mut dyn FnMut()) {
        self.0.iter_batched(prepare, |()| operation(), BatchSize::SmallInput);
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for case in ALL {
        criterion.bench_function(case.name, |bencher| (case.present)(&mut Timed(bencher)));
    }
    criterion.final_summary();
}
