//! Why an address could not be listened on, and what to do about it: the advice has to fit what the system said.

use std::io::{self, ErrorKind};

/// What to do when the system refuses to listen. `flag` is the setting that chooses another address or port.
#[must_use]
pub fn advice(error: &io::Error, flag: &str) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => format!("stop what uses the port, or choose another with {flag}"),
        ErrorKind::AddrNotAvailable => format!(
            "this machine has no such address: choose one that `ip addr` shows, or 0.0.0.0 for all of them, with {flag}"
        ),
        ErrorKind::PermissionDenied => {
            format!("this user may not listen there: choose a port above 1023 with {flag}")
        }
        _ => format!("choose another address with {flag}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_fits_what_the_system_said() {
        for (kind, says) in [
            (ErrorKind::AddrInUse, "stop what uses the port"),
            (ErrorKind::AddrNotAvailable, "no such address"),
            (ErrorKind::PermissionDenied, "above 1023"),
            (ErrorKind::Other, "choose another address"),
        ] {
            let advice = advice(&kind.into(), "--rpc");
            assert!(advice.contains(says) && advice.ends_with("with --rpc"), "{advice}");
            assert_eq!(advice.contains("stop"), kind == ErrorKind::AddrInUse);
        }
    }
}
