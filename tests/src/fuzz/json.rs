//! A JSON reader that keeps what other readers decide: a key twice, a number as it is written, a string that is no text.
//!
//! Source: RFC 8259. It is as strict as its grammar, and leaves it to the reader of a value whether its strings must be
//! UTF-8 with paired surrogates: nobody looks into what is ignored.

/// Deepest nesting that is read. Beyond it there is no judgement.
pub const DEPTH_MAX: usize = 100;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` and `false`.
    Bool,
    /// A number as it is written.
    Number(String),
    /// A string; none when it is no Unicode text.
    Text(Option<String>),
    /// An array.
    Array(Vec<Json>),
    /// An object's members in order, the same key more than once too; a key is none when it is no Unicode text.
    Object(Vec<(Option<String>, Json)>),
}

/// Why there is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The bytes are not JSON.
    Grammar,
    /// They nest deeper than [`DEPTH_MAX`].
    Depth,
}

/// Reads one value that takes all the bytes.
pub fn read(bytes: &[u8]) -> Result<Json, Refused> {
    let mut reader = Reader { rest: bytes };
    let value = reader.value(0)?;
    reader.spaces();
    if reader.rest.is_empty() { Ok(value) } else { Err(Refused::Grammar) }
}

struct Reader<'b> {
    rest: &'b [u8],
}

impl Reader<'_> {
    fn spaces(&mut self) {
        let end = self.rest.iter().position(|byte| !b" \t\r\n".contains(byte)).unwrap_or(self.rest.len());
        self.rest = &self.rest[end..];
    }

    fn takes(&mut self, word: &[u8]) -> bool {
        let found = self.rest.strip_prefix(word);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn expect(&mut self, word: &[u8]) -> Result<(), Refused> {
        if self.takes(word) { Ok(()) } else { Err(Refused::Grammar) }
    }

    fn next(&mut self) -> Result<u8, Refused> {
        let (&first, rest) = self.rest.split_first().ok_or(Refused::Grammar)?;
        self.rest = rest;
        Ok(first)
    }

    fn value(&mut self, depth: usize) -> Result<Json, Refused> {
        if depth > DEPTH_MAX {
            return Err(Refused::Depth);
        }
        self.spaces();
        match self.rest.first().ok_or(Refused::Grammar)? {
            b'n' => self.expect(b"null").map(|()| Json::Null),
            b't' => self.expect(b"true").map(|()| Json::Bool),
            b'f' => self.expect(b"false").map(|()| Json::Bool),
            b'"' => self.string().map(Json::Text),
            b'[' => self.array(depth).map(Json::Array),
            b'{' => self.object(depth).map(Json::Object),
            _ => self.number().map(Json::Number),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Vec<Json>, Refused> {
        self.expect(b"[")?;
        let mut elements = Vec::new();
        self.spaces();
        if self.takes(b"]") {
            return Ok(elements);
        }
        loop {
            elements.push(self.value(depth + 1)?);
            self.spaces();
            if self.takes(b"]") {
                return Ok(elements);
            }
            self.expect(b",")?;
        }
    }

    fn object(&mut self, depth: usize) -> Result<Vec<(Option<String>, Json)>, Refused> {
        self.expect(b"{")?;
        let mut members = Vec::new();
        self.spaces();
        if self.takes(b"}") {
            return Ok(members);
        }
        loop {
            self.spaces();
            let key = self.string()?;
            self.spaces();
            self.expect(b":")?;
            members.push((key, self.value(depth + 1)?));
            self.spaces();
            if self.takes(b"}") {
                return Ok(members);
            }
            self.expect(b",")?;
        }
    }

    fn digits(&mut self) -> Result<String, Refused> {
        let end = self.rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        if digits.is_empty() { Err(Refused::Grammar) } else { Ok(digits.iter().copied().map(char::from).collect()) }
    }

    fn number(&mut self) -> Result<String, Refused> {
        let mut written = String::new();
        if self.takes(b"-") {
            written.push('-');
        }
        let whole = self.digits()?;
        if whole.len() > 1 && whole.starts_with('0') {
            return Err(Refused::Grammar);
        }
        written.push_str(&whole);
        if self.takes(b".") {
            written.push('.');
            written.push_str(&self.digits()?);
        }
        if self.takes(b"e") || self.takes(b"E") {
            written.push('e');
            if self.takes(b"-") {
                written.push('-');
            } else {
                self.takes(b"+");
            }
            written.push_str(&self.digits()?);
        }
        Ok(written)
    }

    fn string(&mut self) -> Result<Option<String>, Refused> {
        self.expect(b"\"")?;
        // As UTF-16, which is what escapes speak of; bytes that are no UTF-8 make the whole no text.
        let mut units = Vec::new();
        let mut is_text = true;
        loop {
            let end =
                self.rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).ok_or(Refused::Grammar)?;
            let (plain, rest) = self.rest.split_at(end);
            self.rest = rest;
            match std::str::from_utf8(plain) {
                Ok(plain) => units.extend(plain.encode_utf16()),
                Err(_) => is_text = false,
            }
            match self.next()? {
                b'"' => return Ok(String::from_utf16(&units).ok().filter(|_| is_text)),
                b'\\' => units.push(self.escaped()?),
                _ => return Err(Refused::Grammar),
            }
        }
    }

    fn escaped(&mut self) -> Result<u16, Refused> {
        Ok(match self.next()? {
            byte @ (b'"' | b'\\' | b'/') => u16::from(byte),
            b'b' => 8,
            b't' => 9,
            b'n' => 10,
            b'f' => 12,
            b'r' => 13,
            b'u' => {
                let (digits, rest) = self.rest.split_at_checked(4).ok_or(Refused::Grammar)?;
                self.rest = rest;
                let mut digits = digits.iter().map(|byte| char::from(*byte).to_digit(16));
                let value = digits.try_fold(0, |sum, digit| digit.map(|digit| sum * 16 + digit));
                value.and_then(|value| u16::try_from(value).ok()).ok_or(Refused::Grammar)?
            }
            _ => return Err(Refused::Grammar),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reader_keeps_what_others_decide() {
        let text = |text: &str| Json::Text(Some(text.to_owned()));
        assert_eq!(
            read(br#" {"a":[1.50E+2,"\u00e4\ud83d\ude00"],"a":null} "#),
            Ok(Json::Object(vec![
                (Some("a".to_owned()), Json::Array(vec![Json::Number("1.50e2".to_owned()), text("ä😀")])),
                (Some("a".to_owned()), Json::Null),
            ]))
        );
        assert_eq!(read(br#""\ud83d""#), Ok(Json::Text(None)));
        assert_eq!(read(b"\"\xff\""), Ok(Json::Text(None)));
        for bad in ["", "01", "-", "1.", "1e", "[1,]", "{\"a\"}", "\"\n\"", "\"\\x\"", "nul", "1 2", "\u{feff}1", "+1"]
        {
            assert_eq!(read(bad.as_bytes()), Err(Refused::Grammar), "{bad}");
        }
        let deep = "[".repeat(DEPTH_MAX + 2);
        assert_eq!(read(deep.as_bytes()), Err(Refused::Depth));
    }
}
