//! Numbers beyond 64 bits, on their way through code that works on [`Value`].

use std::ops::Range;

use serde_json::Value;

use super::layout::WithLayout;
use super::text::tokens;
use super::verbatim::values_hold_any_number;

/// Runs a function of values over JSON. Members come out in the order that they had. Numbers that a
/// [`Value`] cannot hold come out as they went in, at any place that the function puts them; if it
/// looks at one, that is an error, since it would see another number, unless that is the float next
/// to it.
///
/// Other numbers stand in for them meanwhile. The function runs twice, once with whole numbers of
/// 64 bits and once with floats: the results with the numbers put back are the same only if it
/// looked at none.
pub(crate) fn through<K: PartialEq, E>(
    json: &[u8],
    cast: impl Fn(Value) -> Result<Vec<(K, Value)>, E>,
    failed: impl Fn(String) -> E,
) -> Result<Vec<(K, Vec<u8>)>, E> {
    let big = if values_hold_any_number() {
        Vec::new()
    } else {
        numbers_beyond(json, |text| !is_held(text))
    };
    if big.is_empty() {
        return cast_over(json, &cast, &failed);
    }
    let run = |big: &[Range<usize>]| {
        let run = |substitutes: &[String]| run_with(substitutes, big, json, &cast, &failed);
        (run(&whole(json, big)), run(&floating(json, big)))
    };
    if let (Ok(one), Ok(other)) = run(&big)
        && one == other
    {
        return Ok(one);
    }
    // It looks at one: of a float with more digits than it has it sees what every reader of it
    // does.
    let big = numbers_beyond(json, |text| !is_held(text) && !is_near(text));
    if big.is_empty() {
        return cast_over(json, &cast, &failed);
    }
    match run(&big) {
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

fn cast_over<K, E>(
    json: &[u8],
    cast: &impl Fn(Value) -> Result<Vec<(K, Value)>, E>,
    failed: &impl Fn(String) -> E,
) -> Result<Vec<(K, Vec<u8>)>, E> {
    let (value, layout) = WithLayout::parse(json).map_err(|error| failed(error.to_string()))?;
    Ok(cast(value)?.into_iter().map(|(key, value)| (key, layout.write(&value))).collect())
}

/// Runs the function over the JSON with substitutes in the place of some numbers, which are put
/// back.
fn run_with<K, E>(
    substitutes: &[String],
    big: &[Range<usize>],
    json: &[u8],
    cast: &impl Fn(Value) -> Result<Vec<(K, Value)>, E>,
    failed: &impl Fn(String) -> E,
) -> Result<Vec<(K, Vec<u8>)>, E> {
    let results = cast_over(&replaced(json, big, substitutes), cast, failed)?;
    let put_back = |out: Vec<u8>| {
        let mut found = Vec::new();
        let mut originals = Vec::new();
        for range in numbers(&out) {
            if let Some(at) = substitutes
                .iter()
                .position(|substitute| substitute.as_bytes() == &out[range.clone()])
            {
                originals.push(String::from_utf8_lossy(&json[big[at].clone()]).into_owned());
                found.push(range);
            }
        }
        replaced(&out, &found, &originals)
    };
    Ok(results.into_iter().map(|(key, out)| (key, put_back(out))).collect())
}

fn numbers_beyond(json: &[u8], is_beyond: impl Fn(&str) -> bool) -> Vec<Range<usize>> {
    let is_beyond =
        |range: &Range<usize>| std::str::from_utf8(&json[range.clone()]).is_ok_and(&is_beyond);
    numbers(json).into_iter().filter(is_beyond).collect()
}

/// Tells whether a value holds the number as it is.
fn is_held(text: &str) -> bool {
    if is_whole(text) {
        return text.parse::<u64>().is_ok() || text.parse::<i64>().is_ok();
    }
    // A float has 15 digits whatever they are.
    let is_short = text.len() <= 16 && !text.contains(['e', 'E']);
    is_short
        || text.parse().is_ok_and(|float: f64| {
            float.is_finite() && decimal(text) == decimal(&format!("{float:e}"))
        })
}

/// Tells whether a value holds a float next to the number.
fn is_near(text: &str) -> bool {
    !is_whole(text) && text.parse().is_ok_and(f64::is_finite)
}

fn is_whole(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

/// The digits of a number without zeros at either end, and the power of ten that they are
/// multiplied by.
fn decimal(text: &str) -> (String, i64) {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let kept = digits.trim_end_matches('0');
    let moved = digits.len() as i64 - kept.len() as i64 - fraction.len() as i64;
    let power = exponent.parse().unwrap_or(i64::MAX).saturating_add(moved);
    let significant = kept.trim_start_matches(['-', '0']);
    (significant.to_owned(), if significant.is_empty() { 0 } else { power })
}

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
        if json[range.start] == b'-' {
            (i64::MIN + less as i64).to_string()
        } else {
            (u64::MAX - less).to_string()
        }
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

    const JSON: &str = r#"{"a":[20000000000000000000,-9223372036854775809,18446744073709551615],"b":"20000000000000000000","c":0.1}"#;

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

    #[test]
    fn a_float_with_too_many_digits_is_moved_as_it_is_and_seen_as_the_one_next_to_it() {
        let json = r#"{"a":0.10000000000000000555,"b":[1e20,1.50,-0.0,0e99999999999999999999,5e-324,1.7976931348623157e308]}"#;
        let moved = pass(json, |mut data| {
            data["c"] = data["a"].take();
            Ok(data)
        });
        let moved: Value =
            serde_json::from_str(&moved.unwrap().replace("0.10000000000000000555", "7")).unwrap();
        assert_eq!(moved["c"], 7);
        let looked = pass(json, |data| Ok(data["a"].as_f64().unwrap().to_string().into()));
        assert_eq!(looked.as_deref(), Ok("\"0.1\""));
    }

    #[test]
    fn members_keep_their_order_wherever_they_are_moved() {
        let json = r#"{"z":{"t":1,"c":2},"y":[{"c":3,"t":4}],"x":5}"#;
        assert_eq!(pass(json, Ok).as_deref(), Ok(json));
        let moved = pass(json, |mut data| {
            data["new"] = data["z"].take();
            data["y"][0]["a"] = 6.into();
            data.as_object_mut().unwrap().remove("z");
            Ok(data)
        });
        assert_eq!(
            moved.as_deref(),
            Ok(r#"{"y":[{"c":3,"t":4,"a":6}],"x":5,"new":{"t":1,"c":2}}"#)
        );
    }
}
