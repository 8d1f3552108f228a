//! Draws a tile: tree crowns of several species from above, lit from the north-west, and black where the ground is
//! masked. A tile depends only on size, seed and index, and is computed in integers, so it is the same on every
//! machine. Tiles compress about as well as photographs, so that measurements with them hold for photographs (a test
//! in `sample.rs` checks the file sizes).

use image::RgbImage;

use super::noise::{between, hash, plane};

/// Average distance between the centers of neighboring crowns, in pixels.
const SPACING: i32 = 46;
/// Maximum extent of a crown from its center, including its ragged outline, in pixels.
const REACH: i32 = 58;
/// How many of 256 places for a crown stay empty and show the ground.
const CLEARING_IN_256: u32 = 100;

/// The appearance of a species from above.
struct Species {
    color: [i32; 3],
    radius: (i32, i32),
    /// The crown is a cone, like a spruce, instead of a dome.
    pointed: bool,
    /// How much leaves or needles scatter the light.
    rough: i32,
}

const SPECIES: [Species; 6] = [
    Species { color: [78, 100, 54], radius: (30, 46), pointed: false, rough: 2 },
    Species { color: [64, 84, 48], radius: (26, 42), pointed: false, rough: 3 },
    Species { color: [46, 68, 52], radius: (18, 28), pointed: true, rough: 2 },
    Species { color: [98, 116, 64], radius: (20, 32), pointed: false, rough: 3 },
    Species { color: [120, 106, 62], radius: (18, 30), pointed: true, rough: 2 },
    Species { color: [108, 102, 94], radius: (14, 22), pointed: false, rough: 4 },
];

struct Crown {
    x: i32,
    y: i32,
    radius: i32,
    height: i32,
    color: [i32; 3],
    pointed: bool,
    rough: i32,
}

/// What is visible at one pixel.
#[derive(Clone, Copy, Default)]
struct Spot {
    height: i32,
    /// Squared distance from the crown's center, in 256ths of the squared radius.
    outward: i32,
    /// Number of the crown, from 1; 0 is the ground.
    crown: usize,
}

pub(super) fn tile(width: u32, height: u32, seed: u32, index: u32) -> RgbImage {
    let seed = hash(seed, index, 0x7469_6c65);
    let crowns = grow(width, height, seed);
    let mut canopy = rasterise(&crowns, width, height, seed);
    roughen(&mut canopy, width, height, seed);
    paint(&crowns, &canopy, width, height, seed)
}

/// Places crowns on a jittered grid; crowns of a species form stands.
fn grow(width: u32, height: u32, seed: u32) -> Vec<Crown> {
    let cells = |length: u32| -1..=length.cast_signed() / SPACING + 1;
    let places = cells(height).flat_map(|row| cells(width).map(move |column| (column, row)));
    places
        .filter_map(|(column, row)| {
            let random = |what: u32| hash(seed ^ what, column.cast_unsigned(), row.cast_unsigned());
            if random(1) & 255 < CLEARING_IN_256 {
                return None;
            }
            let stand = hash(seed, column.div_euclid(4).cast_unsigned(), row.div_euclid(4).cast_unsigned());
            let choice = if random(2) & 3 == 0 { random(3) } else { stand };
            let species = SPECIES.get(between(choice, 0, 10).cast_unsigned() as usize / 2)?;
            let radius = between(random(4), species.radius.0, species.radius.1);
            let (brightness, warmth) = (between(random(5), 210, 300), between(random(6), -9, 9));
            let [red, green, blue] = species.color.map(|value| (value * brightness) >> 8);
            Some(Crown {
                x: column * SPACING + between(random(7), 0, SPACING - 1),
                y: row * SPACING + between(random(8), 0, SPACING - 1),
                radius,
                height: radius * 2 + between(random(9), 0, 40),
                color: [red + warmth, green + warmth / 2, blue - warmth / 2],
                pointed: species.pointed,
                rough: species.rough,
            })
        })
        .collect()
}

/// Draws the heights of the crowns with ragged outlines; the highest crown is visible.
fn rasterise(crowns: &[Crown], width: u32, height: u32, seed: u32) -> Vec<Spot> {
    let bend = |seed: u32| -> Vec<i32> {
        let branches = plane(seed, width, height, 4).into_iter();
        branches.zip(plane(!seed, width, height, 2)).map(|(branch, twig)| (branch * 9 + twig * 4) >> 7).collect()
    };
    let bends: Vec<(i32, i32)> = bend(hash(seed, 1, 1)).into_iter().zip(bend(hash(seed, 2, 2))).collect();
    let mut canopy = vec![Spot::default(); bends.len()];
    let (right, bottom) = (width.cast_signed(), height.cast_signed());
    for (index, crown) in crowns.iter().enumerate() {
        let columns = (crown.x - REACH).clamp(0, right)..(crown.x + REACH).clamp(0, right);
        for y in (crown.y - REACH).clamp(0, bottom)..(crown.y + REACH).clamp(0, bottom) {
            let start = y * right;
            let row = (start + columns.start).cast_unsigned() as usize..(start + columns.end).cast_unsigned() as usize;
            let (Some(spots), Some(bends)) = (canopy.get_mut(row.clone()), bends.get(row)) else { continue };
            for ((spot, bend), x) in spots.iter_mut().zip(bends).zip(columns.clone()) {
                let (across, down) = (x - crown.x + bend.0, y - crown.y + bend.1);
                let outward = ((across * across + down * down) << 8) / (crown.radius * crown.radius);
                if outward < 256 {
                    let inward = 256 - outward;
                    let fall = if crown.pointed { (inward * inward) >> 8 } else { 256 - ((outward * outward) >> 8) };
                    let height = crown.height + ((crown.radius * fall) >> 8);
                    if height > spot.height {
                        *spot = Spot { height, outward, crown: index + 1 };
                    }
                }
            }
        }
    }
    canopy
}

/// Adds tufts and leaves to the heights, and changes their unit from pixels to eighths of a pixel.
fn roughen(canopy: &mut [Spot], width: u32, height: u32, seed: u32) {
    let tufts = plane(hash(seed, 3, 3), width, height, 3);
    let leaves = plane(hash(seed, 4, 4), width, height, 1);
    for ((spot, tuft), leaf) in canopy.iter_mut().zip(tufts).zip(leaves) {
        spot.height = spot.height * 8 + ((tuft * 26 + leaf * 6) >> 7);
    }
}

/// Lights and colors the canopy.
fn paint(crowns: &[Crown], canopy: &[Spot], width: u32, height: u32, seed: u32) -> RgbImage {
    let hues = plane(hash(seed, 5, 5), width, height, 3);
    let (right, bottom) = (width.cast_signed() - 1, height.cast_signed() - 1);
    let at = |x: i32, y: i32| -> Spot {
        let place = y.clamp(0, bottom) * (right + 1) + x.clamp(0, right);
        canopy.get(place.cast_unsigned() as usize).copied().unwrap_or_default()
    };
    let mut picture = RgbImage::new(width, height);
    for (((x, y, pixel), spot), hue) in picture.enumerate_pixels_mut().zip(canopy).zip(hues) {
        let Some(crown) = spot.crown.checked_sub(1).and_then(|index| crowns.get(index)) else { continue };
        let (column, row) = (x.cast_signed(), y.cast_signed());
        let slope = at(column + 1, row + 1).height - at(column - 1, row - 1).height;
        let shaded = [5, 10, 18].iter().any(|away| at(column - away, row - away).height > spot.height + away * 10);
        let open = 220 + ((slope.clamp(-40, 40) * 9) >> 2) - spot.outward / 3;
        let light = if shaded { (open * 5) >> 3 } else { open };
        let random = hash(seed, x, y);
        let grain = (between(random, -crown.rough, crown.rough) * light) >> 8;
        let warm = [hue >> 4, 0, -(hue >> 5)];
        for ((channel, color), warm) in pixel.0.iter_mut().zip(crown.color).zip(warm) {
            let value = ((color * light) >> 8) + grain + warm;
            *channel = u8::try_from(value.clamp(1, 255)).unwrap_or(u8::MAX);
        }
    }
    picture
}
