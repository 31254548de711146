//! Reads a stack as `faulthandler` writes it: `  File "path", line 12 in function`, innermost first.

/// One frame of a Python stack.
#[derive(Clone)]
pub struct Frame {
    pub function: String,
    pub file: String,
    pub line: u32,
}

/// The frames of a dump, without those of motet's own run loop and of what lies above it.
pub fn parse(dump: &str) -> Vec<Frame> {
    dump.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Frame> {
    let rest = line.trim_start().strip_prefix("File \"")?;
    // The name of a file may hold anything, the part behind it may not hold this.
    let (file, rest) = rest.rsplit_once("\", line ")?;
    let (line, function) = rest.split_once(" in ")?;
    Some(Frame { function: function.to_owned(), file: file.to_owned(), line: line.parse().ok()? })
}
