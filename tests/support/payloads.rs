//! What strangers may write where people read: one set, with which every way to print their text is tried.

/// Each does something to a terminal, or to the eye of whoever reads it.
pub(crate) const PAYLOADS: &[&str] = &[
    // Clears the screen, sets the title, writes the clipboard.
    "\u{1b}[2J\u{1b}[Hgone",
    "\u{1b}]0;root\u{7}",
    "\u{1b}]52;c;cm0gLXJmIH4=\u{7}",
    // The same with the one-byte introducers of C1.
    "\u{9b}2Jgone",
    "\u{9d}0;root\u{9c}",
    // Writes over its own line, or begins another.
    "bad\rgood",
    "bad\u{8}\u{8}\u{8}good",
    "no\nstatus      accepted",
    "no\u{85}status      accepted",
    "no\u{b}\u{c}status",
    "tab\tbed",
    "\u{0}nothing",
    "\u{7f}deleted",
    // Lines and paragraphs of Unicode.
    "no\u{2028}status      accepted",
    "no\u{2029}status      accepted",
    // Turned around.
    "pay \u{202e}DSU 000,1\u{202c} now",
    "\u{2066}isolated\u{2069}",
    "left\u{200f}right\u{200e}\u{61c}",
    // Not seen.
    "US\u{200b}D",
    "US\u{200d}D\u{2060}\u{feff}",
    "so\u{ad}ft",
    "tag\u{e0041}\u{e007f}s",
    "in\u{2063}visible\u{180e}",
    "an\u{fff9}no\u{fffb}tation",
    "fill\u{3164}er\u{ffa0}\u{115f}",
];

/// Nothing in `shown` is obeyed by a terminal, turns text around, or is not seen. Written apart from the program's own list.
#[allow(dead_code, reason = "not every test that uses the payloads asks so much")]
pub(crate) fn assert_harmless(shown: &str) {
    let bad = |c: char| {
        matches!(c,
            '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}')
    };
    assert!(!shown.chars().any(bad), "{shown:?}");
}
