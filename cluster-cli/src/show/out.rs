//! Standard output whose reader may go away, as `| head` does: the command ends quietly then, it does not panic.

use std::fmt::Arguments;
use std::io::{self, Write};

/// What a shell shows for a command that was ended by a closed pipe: 128 and SIGPIPE.
const CLOSED_PIPE: i32 = 141;

/// Writes to standard output at once. Ends the process when nobody reads any more.
pub(crate) fn write(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    if out.write_fmt(text).and_then(|()| out.flush()).is_err() {
        // Work that goes on elsewhere (a join, a leave) does not depend on being watched.
        std::process::exit(CLOSED_PIPE);
    }
}

/// Prints a line.
macro_rules! say {
    ($($part:tt)*) => {
        $crate::show::out::write(format_args!("{}\n", format_args!($($part)*)))
    };
}

/// Prints without ending the line.
macro_rules! say_part {
    ($($part:tt)*) => {
        $crate::show::out::write(format_args!($($part)*))
    };
}

pub(crate) use {say, say_part};
