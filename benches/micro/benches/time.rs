//! The time that each case takes: `cargo bench --package hookgate-micro`, with the name of a case behind `--` for that one.
//!
//! Time here is noise as soon as the machine is shared. What is guarded is the number of instructions (`cargo xtask count`).

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
