//! A small plot of one hour as an SVG element: one step per minute, and a gap for each minute without a value.

use super::history::MINUTES;

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 92.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 74.0;
const STEP: f64 = WIDTH / MINUTES as f64;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Curve {
    Area,
    Line,
}

/// Values of the last 60 minutes, the oldest first.
pub struct Series {
    /// The CSS class that sets the color.
    pub class: &'static str,
    pub curve: Curve,
    /// `None`: unknown.
    pub values: Vec<Option<f64>>,
}

/// `alternative` is the text for screen readers.
pub fn svg(alternative: &str, series: &[Series]) -> String {
    let highest =
        series.iter().flat_map(|series| series.values.iter().flatten()).fold(1.0_f64, |most, &value| most.max(value));
    let curves: String = series.iter().map(|series| curve(series, highest)).collect();
    let alternative = crate::html::escape(alternative);
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{alternative}\">\
         <path class=\"grid\" d=\"M0,{TOP}H{WIDTH}M0,{BOTTOM}H{WIDTH}\"/>\
         <text x=\"0\" y=\"{}\">{highest}</text>{curves}\
         <text x=\"0\" y=\"{}\">60 min ago</text><text text-anchor=\"end\" x=\"{WIDTH}\" y=\"{}\">now</text></svg>",
        TOP - 5.0,
        HEIGHT - 4.0,
        HEIGHT - 4.0,
    )
}

fn curve(series: &Series, highest: f64) -> String {
    let Series { class, curve, values } = series;
    let line = || format!("<path class=\"line {class}\" d=\"{}\"/>", path(values, highest, Curve::Line));
    match curve {
        Curve::Area => format!("<path class=\"area {class}\" d=\"{}\"/>{}", path(values, highest, Curve::Area), line()),
        Curve::Line => line(),
    }
}

/// One step per minute. Each run of known minutes is a separate subpath, closed at the bottom if it bounds an area.
fn path(values: &[Option<f64>], highest: f64, curve: Curve) -> String {
    let closed = curve == Curve::Area;
    let mut path = String::new();
    let mut open = false;
    let mut left = 0.0;
    for value in values.iter().chain([&None]) {
        match value {
            Some(value) => {
                let y = BOTTOM - value / highest * (BOTTOM - TOP);
                path += &match (open, closed) {
                    (true, _) => format!("V{y:.1}"),
                    (false, true) => format!("M{left},{BOTTOM}V{y:.1}"),
                    (false, false) => format!("M{left},{y:.1}"),
                };
                path += &format!("H{}", left + STEP);
            }
            None if open && closed => path += &format!("V{BOTTOM}Z"),
            None => {}
        }
        open = value.is_some();
        left += STEP;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_minute_is_a_step_and_what_is_unknown_is_a_gap() {
        let values = [Some(0.0), Some(4.0), None, Some(2.0), None];
        assert_eq!(path(&values, 4.0, Curve::Line), "M0,74.0H5V16.0H10M15,45.0H20");
        assert_eq!(path(&values, 4.0, Curve::Area), "M0,74V74.0H5V16.0H10V74ZM15,74V45.0H20V74Z");
        assert_eq!(path(&[None; MINUTES], 1.0, Curve::Area), "");
    }

    #[test]
    fn the_picture_is_named_and_its_highest_value_written() {
        let series = [
            Series { class: "ready", curve: Curve::Area, values: vec![Some(2.0); MINUTES] },
            Series { class: "desired", curve: Curve::Line, values: vec![Some(6.0); MINUTES] },
        ];
        let svg = svg("Pods: \"6\" wanted", &series);
        assert!(svg.contains("role=\"img\" aria-label=\"Pods: &quot;6&quot; wanted\""), "{svg}");
        assert!(
            svg.contains(">6</text>") && svg.contains("class=\"area ready\"") && svg.contains("class=\"line desired\"")
        );
        assert!(svg.contains("H300\"/>"), "the last minute ends at the edge: {svg}");
    }
}
