//! Numbers beyond 64 bits, on their way through code that works on [`Value`].

use std::ops::Range;
use std::sync::OnceLock;

use serde_json::Value;

use super::text::tokens;

/// What a function of values makes of JSON. Numbers that a [`Value`] cannot hold come out as they went in, wherever it
/// puts them; if it looks at one, that is an error, since it would see another number.
///
/// Others stand in for them meanwhile. The function runs twice, once with whole numbers of 64 bits and once with floats:
/// what comes out of both with the numbers put back is the same only if it looked at none.
pub(crate) fn through<K: PartialEq, E>(
    json: &[u8],
    cast: impl Fn(Value) -> Result<Vec<(K, Value)>, E>,
    failed: impl Fn(String) -> E,
) -> Result<Vec<(K, Vec<u8>)>, E> {
    let parsed = |json: &[u8]| serde_json::from_slice(json).map_err(|error| failed(error.to_string()));
    let big = if values_hold_any_number() { Vec::new() } else { big_numbers(json) };
    if big.is_empty() {
        return Ok(cast(parsed(json)?)?.into_iter().map(|(key, value)| (key, value.to_string().into_bytes())).collect());
    }
    let run = |substitutes: &[String]| -> Result<Vec<(K, Vec<u8>)>, E> {
        let results = cast(parsed(&replaced(json, &big, substitutes))?)?;
        let put_back = |value: Value| {
            let out = value.to_string().into_bytes();
            let mut found = Vec::new();
            let mut originals = Vec::new();
            for range in numbers(&out) {
                if let Some(at) = substitutes.iter().position(|substitute| substitute.as_bytes() == &out[range.clone()]) {
                    originals.push(String::from_utf8_lossy(&json[big[at].clone()]).into_owned());
                    found.push(range);
                }
            }
            replaced(&out, &found, &originals)
        };
        Ok(results.into_iter().map(|(key, value)| (key, put_back(value))).collect())
    };
    match (run(&whole(json, &big)), run(&floating(json, &big))) {
        (Ok(one), Ok(other)) if one == other => Ok(one),
        (Err(error), Err(_)) => Err(error),
        _ => {
            let number = String::from_utf8_lossy(&json[big[0].clone()]).into_owned();
            Err(failed(format!(
                "it looks at a number like {number}, beyond 64 bits, which serde_json::Value cannot hold; move it untouched, \
                 or build with serde_json's feature arbitrary_precision"
            )))
        }
    }
}

/// Whether serde_json was built with `arbitrary_precision`, by whatever crate of the program asked for it.
fn values_hold_any_number() -> bool {
    const BEYOND: &str = "123456789012345678901234567890";
    static HOLD: OnceLock<bool> = OnceLock::new();
    *HOLD.get_or_init(|| {
        let value = serde_json::from_str::<Value>(BEYOND);
        value.and_then(|value| serde_json::to_string(&value)).is_ok_and(|text| text == BEYOND)
    })
}

/// Whole numbers that neither a `u64` nor an `i64` holds.
fn big_numbers(json: &[u8]) -> Vec<Range<usize>> {
    let is_big = |range: &Range<usize>| {
        let Ok(text) = std::str::from_utf8(&json[range.clone()]) else { return false };
        let digits = text.strip_prefix('-').unwrap_or(text);
        digits.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u64>().is_err() && text.parse::<i64>().is_err()
    };
    // No shorter text can hold one, which is nearly always so.
    if json.len() < DIGITS_OF_64_BITS { Vec::new() } else { numbers(json).into_iter().filter(is_big).collect() }
}

const DIGITS_OF_64_BITS: usize = 19;

fn numbers(json: &[u8]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    tokens(json, |at, byte| {
        if !matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E') {
            return;
        }
        match found.last_mut() {
            Some(last) if last.end == at => last.end = at + 1,
            // Not the last letters of true and false.
            _ if byte.is_ascii_digit() || byte == b'-' => found.push(at..at + 1),
            _ => {}
        }
    });
    found
}

fn replaced(json: &[u8], ranges: &[Range<usize>], by: &[String]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let mut copied = 0;
    for (range, new) in ranges.iter().zip(by) {
        out.extend_from_slice(&json[copied..range.start]);
        out.extend_from_slice(new.as_bytes());
        copied = range.end;
    }
    out.extend_from_slice(&json[copied..]);
    out
}

/// The greatest whole numbers of 64 bits that the text does not have, of the same sign.
fn whole(json: &[u8], big: &[Range<usize>]) -> Vec<String> {
    let mut unused = (0_u64..).filter(|less| {
        let [most, least] = [(u64::MAX - less).to_string(), (i64::MIN + *less as i64).to_string()];
        !contains(json, &most) && !contains(json, &least)
    });
    let mut next = |range: &Range<usize>| {
        let less = unused.next().unwrap_or_default();
        if json[range.start] == b'-' { (i64::MIN + less as i64).to_string() } else { (u64::MAX - less).to_string() }
    };
    big.iter().map(&mut next).collect()
}

/// Great floating-point numbers that the text does not have, of the same sign.
fn floating(json: &[u8], big: &[Range<usize>]) -> Vec<String> {
    let text = |step: u32| Value::from(f64::from(step) * 1e290).to_string();
    let mut unused = (1_000_000_u32..).map(text).filter(|text| !contains(json, text));
    let mut next = |range: &Range<usize>| {
        let sign = if json[range.start] == b'-' { "-" } else { "" };
        format!("{sign}{}", unused.next().unwrap_or_default())
    };
    big.iter().map(&mut next).collect()
}

fn contains(json: &[u8], text: &str) -> bool {
    json.windows(text.len()).any(|window| window == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(json: &str, cast: fn(Value) -> Result<Value, String>) -> Result<String, String> {
        let done = through(json.as_bytes(), |value| Ok(vec![((), cast(value)?)]), |detail| detail)?;
        Ok(String::from_utf8(done[0].1.clone()).unwrap())
    }

    const JSON: &str =
        r#"{"a":[20000000000000000000,-9223372036854775809,18446744073709551615],"b":"20000000000000000000","c":0.1}"#;

    #[test]
    fn big_numbers_that_are_moved_stay_what_they_are() {
        assert_eq!(pass(JSON, Ok).as_deref(), Ok(JSON));
        let moved = pass(JSON, |mut data| {
            let first = data["a"][0].take();
            data["moved"] = serde_json::json!([first.clone(), first]);
            data["a"] = data["a"][1].take();
            Ok(data)
        });
        let expected = r#"{"a":-9223372036854775809,"b":"20000000000000000000","c":0.1,"moved":[20000000000000000000,20000000000000000000]}"#;
        assert_eq!(moved.as_deref(), Ok(expected));
        let dropped = pass(JSON, |mut data| {
            data["a"] = true.into();
            Ok(data)
        });
        assert_eq!(dropped.as_deref(), Ok(r#"{"a":true,"b":"20000000000000000000","c":0.1}"#));
    }

    #[test]
    fn whoever_looks_at_a_big_number_is_told_that_it_cannot_be_seen() {
        if values_hold_any_number() {
            return;
        }
        let looks: [fn(Value) -> Result<Value, String>; 5] = [
            |mut data| {
                data["text"] = data["a"][0].to_string().into();
                Ok(data)
            },
            |mut data| {
                data["ether"] = (data["a"][0].as_f64().unwrap() / 1e18).into();
                Ok(data)
            },
            |mut data| {
                data["wei"] = data["a"][0].as_u64().unwrap_or(0).into();
                Ok(data)
            },
            |data| data["a"][0].as_u64().map(|_| data.clone()).ok_or("no number".to_owned()),
            |mut data| {
                data["rich"] = (data["a"][0].as_f64().unwrap() > 1e20).into();
                Ok(data)
            },
        ];
        for look in looks {
            let error = pass(JSON, look).unwrap_err();
            assert!(error.contains("20000000000000000000, beyond 64 bits"), "{error}");
        }
        assert_eq!(pass(JSON, |_| Err("no".to_owned())).unwrap_err(), "no");
    }
}
