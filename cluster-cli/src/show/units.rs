//! Numbers for people.

/// `128417` as `128,417`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes in decimal units with three digits: `61.4 MB`.
pub(crate) fn bytes(count: u64) -> String {
    if count < 1000 {
        return format!("{count} B");
    }
    let mut value = count as f64;
    let mut unit = "B";
    for larger in ["kB", "MB", "GB", "TB", "PB"] {
        // What would round to 1000 belongs to the next unit.
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = larger;
    }
    format!("{} {unit}", three_digits(value))
}

/// Bytes per second.
pub(crate) fn rate(bytes_per_second: f64) -> String {
    if bytes_per_second >= 1.0 { format!("{}/s", bytes(bytes_per_second as u64)) } else { DASH.to_owned() }
}

/// Milliseconds in the one or two units that matter: `0.8 s`, `2 s`, `1 h 56 min`, `41 d`.
pub(crate) fn duration_ms(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..=9 => format!("{:.1} s", ms as f64 / 1000.0),
        10..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        7200..=172_799 => match (seconds / 3600, seconds % 3600 / 60) {
            (hours, 0) => format!("{hours} h"),
            (hours, minutes) => format!("{hours} h {minutes} min"),
        },
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Wall time in UTC, from milliseconds since the Unix epoch: `2025-11-21 20:34:56`.
pub(crate) fn instant(at_ms: u64) -> String {
    let (days, second) = (at_ms / 86_400_000, at_ms / 1000 % 86_400);
    // Days since 1 March of the year 0, in whole cycles of 400 years, so that leap days come last.
    let from_march = days + 719_468;
    let (cycle, day_of_cycle) = (from_march / 146_097, from_march % 146_097);
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = cycle * 400 + year_of_cycle + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// Part of a whole: `61 %`.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { DASH.to_owned() } else { format!("{:.0} %", part as f64 * 100.0 / whole as f64) }
}

/// One thing, several things.
pub(crate) fn count(number: u64, one: &str, several: &str) -> String {
    format!("{} {}", thousands(number), if number == 1 { one } else { several })
}

/// Nothing to show.
pub(crate) const DASH: &str = "–";

fn three_digits(value: f64) -> String {
    if value < 9.995 {
        format!("{value:.2}")
    } else if value < 99.95 {
        format!("{value:.1}")
    } else {
        format!("{value:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        let told = [0, 999, 1000, 128_417, 1_204_331].map(thousands);
        assert_eq!(told, ["0", "999", "1,000", "128,417", "1,204,331"]);
        let told = [0, 999, 1000, 61_400_000, 999_499, 999_500, 1_080_000_000_000].map(bytes);
        assert_eq!(told, ["0 B", "999 B", "1.00 kB", "61.4 MB", "999 kB", "1.00 MB", "1.08 TB"]);
        let told = [0, 800, 9_999, 45_000, 180_000, 6_960_000, 7_200_000, 7_320_000, 41 * 86_400_000].map(duration_ms);
        assert_eq!(told, ["0.0 s", "0.8 s", "10.0 s", "45 s", "3 min", "116 min", "2 h", "2 h 2 min", "41 d"]);
        let told = [0, 951_782_399_999, 951_782_400_000, 1_735_689_599_000, 1_763_757_296_000].map(instant);
        assert_eq!(told[..3], ["1970-01-01 00:00:00", "2000-02-28 23:59:59", "2000-02-29 00:00:00"]);
        assert_eq!(told[3..], ["2024-12-31 23:59:59", "2025-11-21 20:34:56"]);
        assert_eq!([percent(61, 100), percent(1, 0)], ["61 %", "–"]);
        assert_eq!([rate(0.0), rate(84e6)], ["–", "84.0 MB/s"]);
        assert_eq!([count(1, "blob", "blobs"), count(3000, "blob", "blobs")], ["1 blob", "3,000 blobs"]);
    }
}
