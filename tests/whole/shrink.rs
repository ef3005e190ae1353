//! From a failure with hundreds of happenings to one with a few: parts of the plan are left out for as long as it still fails (Zeller's
//! delta debugging).

use super::plan::{Plan, Step};

/// The fewest steps that were found in so many runs with which it `fails` still.
pub(crate) fn shrink(plan: &Plan, runs_max: u64, fails: impl Fn(&Plan) -> bool) -> Vec<Step> {
    let (mut steps, mut parts, mut runs) = (plan.steps.clone(), 2, 0);
    while !steps.is_empty() && runs < runs_max {
        let size = steps.len().div_ceil(parts);
        let mut smaller = None;
        for start in (0..steps.len()).step_by(size) {
            let mut rest = steps.clone();
            rest.drain(start..(start + size).min(steps.len()));
            runs += 1;
            if fails(&plan.only(&rest)) {
                smaller = Some(rest);
                break;
            }
            if runs >= runs_max {
                break;
            }
        }
        match smaller {
            Some(rest) => (steps, parts) = (rest, (parts - 1).max(2)),
            None if size == 1 => break,
            None => parts = (2 * parts).min(steps.len()),
        }
    }
    steps
}
