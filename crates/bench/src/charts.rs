//! Charts as SVG text, drawn by `plotters`. Text and axes are black there; here black becomes the page's text colour, so
//! that a chart is readable on a dark page too. `plotters` escapes what it writes.

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

const SIZE: (u32, u32) = (860, 360);
const COLOURS: [RGBColor; 8] = [
    RGBColor(0x2f, 0x7e, 0xd8),
    RGBColor(0xd9, 0x5f, 0x02),
    RGBColor(0x1b, 0x9e, 0x77),
    RGBColor(0xc0, 0x39, 0x8b),
    RGBColor(0x8a, 0x6d, 0xd8),
    RGBColor(0x9a, 0x8a, 0x12),
    RGBColor(0x66, 0x8f, 0x5d),
    RGBColor(0xb0, 0x5a, 0x4a),
];

/// A bar with its error.
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// A line through points, or points alone.
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
    pub(crate) line: bool,
}

type Drawn = Result<(), Box<dyn std::error::Error>>;

fn svg(height: u32, draw: impl FnOnce(&DrawingArea<SVGBackend<'_>, plotters::coord::Shift>) -> Drawn) -> String {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (SIZE.0, height)).into_drawing_area();
        if draw(&area).and_then(|()| Ok(area.present()?)).is_err() {
            return String::new();
        }
    }
    text.replace("\"#000000\"", "\"currentColor\"")
}

fn short(name: &str) -> String {
    const MOST: usize = 44;
    if name.chars().count() <= MOST { name.to_owned() } else { name.chars().take(MOST - 1).chain(['…']).collect() }
}

/// Horizontal bars, first on top.
pub(crate) fn bars(bars: &[Bar], unit: &str) -> String {
    let most = bars.iter().map(|b| b.high.max(b.value)).fold(0.0, f64::max);
    if bars.is_empty() || !most.is_finite() || most <= 0.0 {
        return String::new();
    }
    svg(60 + 30 * bars.len() as u32, |area| {
        let n = bars.len() as f64;
        let mut chart = ChartBuilder::on(area)
            .margin(8)
            .margin_left(330)
            .x_label_area_size(36)
            .build_cartesian_2d(0.0..1.05 * most, -n..0.0)?;
        chart.configure_mesh().disable_y_mesh().disable_y_axis().light_line_style(TRANSPARENT).x_desc(unit).draw()?;
        for (i, bar) in bars.iter().enumerate() {
            let (top, bottom) = (-(i as f64) - 0.2, -(i as f64) - 0.8);
            let middle = (top + bottom) / 2.0;
            let colour = COLOURS[0];
            chart.draw_series([Rectangle::new([(0.0, top), (bar.value, bottom)], colour.mix(0.8).filled())])?;
            chart.draw_series([PathElement::new(vec![(bar.low, middle), (bar.high, middle)], BLACK)])?;
            let y = 8 + ((i as f64 + 0.5) / n * (30.0 * n - 0.0)) as i32 - 6;
            area.draw_text(&short(&bar.name), &("sans-serif", 13).into_text_style(area), (8, y))?;
        }
        Ok(())
    })
}

/// Lines and points over two logarithmic axes.
pub(crate) fn log_log(series: &[Series], x: &str, y: &str) -> String {
    let good = |p: &&(f64, f64)| p.0 > 0.0 && p.1 > 0.0 && p.0.is_finite() && p.1.is_finite();
    let all = || series.iter().flat_map(|s| &s.points).filter(good);
    if all().next().is_none() {
        return String::new();
    }
    let range = |of: fn(&(f64, f64)) -> f64| {
        let (low, high) = all().map(of).fold((f64::MAX, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
        (0.7 * low)..(1.4 * high)
    };
    plot(series, good, (range(|p| p.0).log_scale(), range(|p| p.1).log_scale()), (x, y))
}

/// Lines over a linear axis that starts at 0 and an axis of depths.
pub(crate) fn lines(series: &[Series], x: &str, y: &str) -> String {
    let good = |p: &&(f64, f64)| p.0.is_finite() && p.1.is_finite();
    let all = || series.iter().flat_map(|s| &s.points).filter(good);
    let (right, top) = all().fold((0.0f64, 0.0f64), |(r, t), p| (r.max(p.0), t.max(p.1)));
    if right <= 0.0 || top <= 0.0 {
        return String::new();
    }
    plot(series, good, (0.0..1.05 * right, 0.0..1.15 * top), (x, y))
}

/// Series over two axes, with a legend.
fn plot<X, Y>(
    series: &[Series],
    good: impl Fn(&&(f64, f64)) -> bool,
    (across, up): (X, Y),
    (x, y): (&str, &str),
) -> String
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    svg(SIZE.1, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(70)
            .build_cartesian_2d(across, up)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.12))
            .x_desc(x)
            .y_desc(y)
            .draw()?;
        for (i, s) in series.iter().enumerate() {
            draw_series(&mut chart, s, COLOURS[i % COLOURS.len()], &good)?;
        }
        legend(&mut chart)
    })
}

type Chart<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;

fn draw_series<X, Y>(
    chart: &mut Chart<'_, '_, X, Y>,
    s: &Series,
    colour: RGBColor,
    good: impl Fn(&&(f64, f64)) -> bool,
) -> Drawn
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    let points: Vec<(f64, f64)> = s.points.iter().filter(|p| good(p)).copied().collect();
    if s.line {
        chart.draw_series(LineSeries::new(points.clone(), colour.stroke_width(2)))?;
    }
    let mark = move |(x, y): (i32, i32)| Circle::new((x + 8, y), 4, colour.filled());
    chart.draw_series(points.iter().map(|p| Circle::new(*p, 4, colour.filled())))?.label(short(&s.name)).legend(mark);
    Ok(())
}

fn legend<'a, 'b: 'a, X, Y>(chart: &mut Chart<'a, 'b, X, Y>) -> Drawn
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    let corner = SeriesLabelPosition::LowerRight;
    chart.configure_series_labels().position(corner).border_style(TRANSPARENT).background_style(TRANSPARENT).draw()?;
    Ok(())
}
