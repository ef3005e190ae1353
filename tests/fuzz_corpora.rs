//! Every input that is kept in `fuzz/corpus` goes through its target here too, so that neither can rot: a corpus without a
//! target, a target without a corpus, or an input on which something does not hold any more fails. `make fuzz` looks for new ones.

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::{fs, panic, path::Path};

#[test]
fn every_kept_input_holds() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, run) in targets::TARGETS {
        let inputs: Vec<_> =
            fs::read_dir(corpus.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(inputs.len() >= 5, "{name} has {} inputs", inputs.len());
        for path in inputs {
            let input = fs::read(&path).unwrap();
            let held = panic::catch_unwind(|| run(&input));
            assert!(held.is_ok(), "{} fails", path.display());
        }
    }
    assert_eq!(fs::read_dir(corpus).unwrap().count(), targets::TARGETS.len(), "a corpus has no target");
}
