//! The plot: messages above, pods below, with one time axis from the first confirm. Two panels instead of two
//! scales in one.

use crate::recording::{Recording, Size};

const WIDTH: f64 = 960.0;
/// Height of the picture with both panels, and with messages alone.
const HEIGHT: f64 = 452.0;
const HEIGHT_OF_MESSAGES: f64 = 288.0;
/// Space for the axis on the left and the names of the lines on the right.
const LEFT: f64 = 48.0;
const RIGHT: f64 = WIDTH - 116.0;
/// Seconds shown before the first confirm.
const LEAD_IN: f64 = 2.0;

/// Maps times and values to positions in the picture.
struct Panel {
    top: f64,
    bottom: f64,
    highest: f64,
    from: f64,
    to: f64,
}

/// Seconds since the first confirm, and a value.
type Point = (f64, f64);

/// Draws the plot as an SVG element; without the panel of pods if no size was recorded.
pub fn svg(recording: &Recording) -> String {
    let samples = || recording.samples.iter().filter(|sample| sample.at >= -LEAD_IN);
    let queued: Vec<Point> = samples().map(|sample| (sample.at, f64::from(sample.queued))).collect();
    let stored: Vec<Point> = samples().map(|sample| (sample.at, sample.stored as f64)).collect();
    let end = queued.last().map_or(1.0, |(at, _)| at.max(1.0));
    let of_size = |value: fn(&Size) -> i64| -> Vec<Point> {
        steps(recording.sizes.iter().map(|size| (size.at.max(-LEAD_IN), value(size) as f64)), end)
    };
    let (desired, ready) = (of_size(|size| size.desired), of_size(|size| size.ready));

    let panel = |top, bottom, highest| Panel { top, bottom, highest, from: -LEAD_IN, to: end };
    let messages = panel(34.0, 250.0, nice_top(highest(&queued).max(highest(&stored))));
    let pods = panel(312.0, 412.0, nice_top(highest(&desired).max(highest(&ready))));

    let has_pods = !recording.sizes.is_empty();
    let height = if has_pods { HEIGHT } else { HEIGHT_OF_MESSAGES };
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"Backlog{} over time\">\n",
        if has_pods { ", stored images and replicas" } else { " and stored images" }
    );
    svg += &messages.grid("Messages ready in the queue, and images in the bucket");
    svg += &messages.seconds();
    svg += &messages.area("backlog", &queued);
    svg += &messages.line("backlog", &queued);
    svg += &messages.line("stored", &stored);
    svg += &messages.name("stored", "stored", stored.last());
    svg += &messages.name("backlog", "backlog", queued.last());
    svg += &if has_pods { &pods } else { &messages }.seconds_name();
    if has_pods {
        svg += &pods.grid("Pods");
        svg += &pods.seconds();
        svg += &pods.area("ready", &ready);
        svg += &pods.line("desired", &desired);
        svg += &pods.peak_names(&[("desired", "wanted"), ("ready", "ready")], &desired);
    }
    svg + "</svg>"
}

impl Panel {
    fn x(&self, at: f64) -> f64 {
        LEFT + (at - self.from) / (self.to - self.from) * (RIGHT - LEFT)
    }

    fn y(&self, value: f64) -> f64 {
        self.bottom - value / self.highest * (self.bottom - self.top)
    }

    fn grid(&self, title: &str) -> String {
        let mut svg = format!("<text class=\"title\" x=\"{LEFT}\" y=\"{:.1}\">{title}</text>\n", self.top - 14.0);
        for value in ticks(self.highest, 4.0) {
            let y = self.y(value);
            svg += &format!("<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\n");
            let (x, y) = (LEFT - 8.0, y + 4.0);
            svg += &format!("<text class=\"tick\" text-anchor=\"end\" x=\"{x:.1}\" y=\"{y:.1}\">{value}</text>\n");
        }
        svg
    }

    fn seconds(&self) -> String {
        let mut svg = String::new();
        let (low, high) = (self.bottom + 5.0, self.bottom + 20.0);
        for at in ticks(self.to, 10.0) {
            let x = self.x(at);
            svg += &format!(
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{low:.1}\"/>\n",
                self.bottom
            );
            svg += &format!("<text class=\"tick\" text-anchor=\"middle\" x=\"{x:.1}\" y=\"{high:.1}\">{at}</text>\n");
        }
        svg
    }

    fn seconds_name(&self) -> String {
        let (x, y) = (RIGHT + 14.0, self.bottom + 20.0);
        let below = y + 14.0;
        format!(
            "<text class=\"tick\" x=\"{x:.1}\" y=\"{y:.1}\">s after the</text>\n\
             <text class=\"tick\" x=\"{x:.1}\" y=\"{below:.1}\">first confirm</text>\n"
        )
    }

    fn places(&self, points: &[Point]) -> String {
        points.iter().map(|(at, value)| format!("{:.1},{:.1} ", self.x(*at), self.y(*value))).collect()
    }

    fn line(&self, class: &str, points: &[Point]) -> String {
        format!("<polyline class=\"line {class}\" points=\"{}\"/>\n", self.places(points).trim_end())
    }

    fn area(&self, class: &str, points: &[Point]) -> String {
        let (Some(first), Some(last)) = (points.first(), points.last()) else { return String::new() };
        let closing = self.places(&[(last.0, 0.0), (first.0, 0.0)]);
        format!("<polygon class=\"area {class}\" points=\"{}{}\"/>\n", self.places(points), closing.trim_end())
    }

    /// The name of a line, at its end.
    fn name(&self, class: &str, name: &str, end: Option<&Point>) -> String {
        let Some((at, value)) = end else { return String::new() };
        self.text(class, name, self.x(*at) + 8.0, self.y(*value) + 4.0)
    }

    /// Names side by side above the first peak of a line.
    fn peak_names(&self, names: &[(&str, &str)], points: &[Point]) -> String {
        let peak = points.iter().find(|(_, value)| *value > 0.0 && *value >= highest(points));
        let Some((at, value)) = peak else { return String::new() };
        let places = (0_u32..).map(|index| self.x(*at) + 8.0 + 78.0 * f64::from(index));
        names.iter().zip(places).map(|((class, name), x)| self.text(class, name, x, self.y(*value) - 6.0)).collect()
    }

    fn text(&self, class: &str, name: &str, x: f64, y: f64) -> String {
        let key =
            format!("<rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"9\" height=\"9\" rx=\"2\"/>", y - 8.0);
        format!("{key}<text class=\"name\" x=\"{:.1}\" y=\"{y:.1}\">{name}</text>\n", x + 14.0)
    }
}

fn highest(points: &[Point]) -> f64 {
    points.iter().fold(0.0, |highest, (_, value)| highest.max(*value))
}

/// A step function: each value holds until the next, up to `end`.
fn steps(points: impl Iterator<Item = Point>, end: f64) -> Vec<Point> {
    let mut steps: Vec<Point> = Vec::new();
    for (at, value) in points.filter(|(at, _)| *at <= end) {
        if let Some((_, before)) = steps.last().copied() {
            steps.push((at, before));
        }
        steps.push((at, value));
    }
    if let Some((_, value)) = steps.last().copied() {
        steps.push((end, value));
    }
    steps
}

/// Round numbers from zero to `top`, about `count` of them.
fn ticks(top: f64, count: f64) -> Vec<f64> {
    let step = step(top, count);
    (0..=(top / step + 1e-9) as u32).map(|index| f64::from(index) * step).collect()
}

/// The next round number at or above `top`, as the upper end of the axis.
fn nice_top(top: f64) -> f64 {
    let step = step(top.max(1.0), 4.0);
    (top.max(1.0) / step).ceil() * step
}

fn step(top: f64, count: f64) -> f64 {
    let rough = top / count;
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0].iter().map(|nice| nice * power).find(|step| *step >= rough).unwrap_or(10.0 * power).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::tests::recorded;

    #[test]
    fn ticks_are_round_and_whole() {
        assert_eq!(ticks(300.0, 4.0), [0.0, 100.0, 200.0, 300.0]);
        assert_eq!(ticks(6.0, 4.0), [0.0, 2.0, 4.0, 6.0]);
        assert_eq!(ticks(1.0, 4.0), [0.0, 1.0]);
        assert_eq!(ticks(32.4, 10.0), [0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0]);
    }

    #[test]
    fn the_highest_value_fits() {
        assert_eq!((nice_top(300.0), nice_top(301.0), nice_top(7.0), nice_top(0.0)), (300.0, 400.0, 8.0, 1.0));
    }

    #[test]
    fn a_size_holds_until_the_next() {
        let points = [(-2.0, 0.0), (1.5, 6.0), (30.0, 0.0), (99.0, 6.0)];
        let expected = [(-2.0, 0.0), (1.5, 0.0), (1.5, 6.0), (30.0, 6.0), (30.0, 0.0), (32.0, 0.0)];
        assert_eq!(steps(points.into_iter(), 32.0), expected);
    }

    #[test]
    fn everything_is_drawn_inside_the_picture() {
        let svg = svg(&recorded());
        let numbers = svg.split("points=\"").skip(1).filter_map(|rest| rest.split('"').next());
        let places: Vec<(f64, f64)> = numbers
            .flat_map(|points| points.split(' '))
            .map(|place| place.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).unwrap())
            .collect();
        assert!(places.len() > 40, "{}", places.len());
        assert!(places.iter().all(|(x, y)| (LEFT..=RIGHT).contains(x) && (34.0..=412.0).contains(y)), "{places:?}");
    }

    #[test]
    fn nothing_recorded_draws_empty_axes() {
        let mut recording = recorded();
        recording.samples.clear();
        recording.sizes.clear();
        let svg = svg(&recording);
        assert!(svg.ends_with("</svg>") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
