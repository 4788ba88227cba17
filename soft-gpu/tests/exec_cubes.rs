//! Cubes, and layers of them: which element a direction meets, and which level the gradients of a direction mean, against a projection in double
//! precision and its differences.

mod support;

use driver_api::array::flag;
use soft_gpu::exec::{Descriptor, Resource, TEXTURE};
use support::{Argument, Run, kernels};

/// Elements of an edge of the largest level.
const EDGE: usize = 16;
const LEVELS: usize = 5;
const CUBES: usize = 3;
const FACES: usize = 6 * CUBES;
const POINTS: usize = 96;
/// What each thread reads: a direction and its two gradients, padded.
type Asked = [f32; 12];

/// A kernel that does `fetch` with the cube `%r2`, the direction `%f1` to `%f3` and the gradients `%f4` to `%f9`, into `%f0`.
fn kernel_text(fetch: &str) -> String {
    format!(
        "
.version 7.0
.target sm_70
.address_size 64
.visible .entry k(.param .u64 asked, .param .u64 out, .param .u64 texture, .param .u32 cubes)
{{
    .reg .f32 %f<16>;
    .reg .b32 %r<4>;
    .reg .b64 %rd<4>;
    mov.u32 %r1, %tid.x;
    ld.param.u64 %rd1, [asked];
    mad.wide.u32 %rd1, %r1, 48, %rd1;
    ld.global.v4.f32 {{%f1, %f2, %f3, %f4}}, [%rd1];
    ld.global.v4.f32 {{%f5, %f6, %f7, %f8}}, [%rd1+16];
    ld.global.f32 %f9, [%rd1+32];
    ld.param.u32 %r3, [cubes];
    rem.u32 %r2, %r1, %r3;
    ld.param.u64 %rd2, [texture];
    {fetch}
    ld.param.u64 %rd3, [out];
    mad.wide.u32 %rd3, %r1, 4, %rd3;
    st.global.f32 [%rd3], %f0;
    ret;
}}
"
    )
}

/// Cubes whose elements are what `element` makes of level, face, row and column.
fn image(element: impl Fn(usize, usize, usize, usize) -> f32) -> Vec<f32> {
    let mut image = Vec::new();
    for level in 0..LEVELS {
        let edge = EDGE >> level;
        for face in 0..FACES {
            let rows = (0..edge).flat_map(|row| (0..edge).map(move |column| (row, column)));
            image.extend(rows.map(|(row, column)| element(level, face, row, column)));
        }
    }
    image
}

fn cubes(image: &[f32]) -> Descriptor {
    Descriptor {
        base: image.as_ptr() as u64,
        size: [EDGE as u64, EDGE as u64, FACES as u64],
        array_flags: flag::CUBEMAP | flag::LAYERED,
        format: 0x20,
        channels: 1,
        levels: LEVELS as u32,
        level_clamp: [0.0, 99.0],
        flags: 2,
        ..Descriptor::new(TEXTURE, Resource::Array)
    }
}

/// Directions to all faces with gradients of all sizes, none of which is near an edge.
fn asked() -> Vec<Asked> {
    let noise = |seed: usize| {
        let bits = (seed as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        (bits % 1000) as f32 / 500.0 - 0.999
    };
    let one = |index: usize| {
        let mut asked = [0.0; 12];
        let (axis, size) = (index / 2 % 3, 0.5 + (index % 7) as f32);
        for (part, value) in asked[..3].iter_mut().enumerate() {
            *value = noise(index * 9 + part) * 0.9 * size;
        }
        asked[axis] = size * if index & 1 == 0 { 1.0 } else { -1.0 };
        let reach = size * 0.75_f32.powi(index as i32 % 16);
        for (part, value) in asked[3..9].iter_mut().enumerate() {
            *value = noise(index * 11 + part + 3) * reach;
        }
        asked
    };
    (0..POINTS).map(one).collect()
}

/// The face that a direction meets, and the place there from -1 to 1: each face has a middle, and directions to its right and down.
fn projected(direction: [f64; 3]) -> (usize, [f64; 2]) {
    const SIDES: [([f64; 3], [f64; 3], [f64; 3]); 6] = [
        ([1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, -1.0, 0.0]),
        ([-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]),
        ([0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]),
        ([0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]),
        ([0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]),
        ([0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]),
    ];
    let dot = |side: [f64; 3]| -> f64 { (0..3).map(|part| side[part] * direction[part]).sum() };
    let far = |face: &usize| dot(SIDES[*face].0);
    let face = (0..6)
        .max_by(|one, other| far(one).total_cmp(&far(other)))
        .expect("six faces");
    let (_, right, down) = SIDES[face];
    (face, [right, down].map(|side| dot(side) / far(&face)))
}

fn direction(asked: &Asked) -> [f64; 3] {
    [0, 1, 2].map(|part| f64::from(asked[part]))
}

/// The level that a lane's gradients mean, by differences.
fn level(asked: &Asked) -> f64 {
    const STEP: f64 = 1e-7;
    let from = direction(asked);
    let (face, start) = projected(from);
    let length = |first: usize| {
        let to = [0, 1, 2].map(|part| from[part] + STEP * f64::from(asked[first + part]));
        let (same, end) = projected(to);
        assert_eq!(same, face, "no step leaves a face");
        let passed = |part: usize| (end[part] - start[part]) / STEP / 2.0 * EDGE as f64;
        passed(0).hypot(passed(1))
    };
    let level = length(3).max(length(6)).log2();
    level.clamp(0.0, (LEVELS - 1) as f64)
}

/// What `fetch` gives, on every path the same.
fn fetched(fetch: &str, image: &mut [f32], how: &Descriptor) -> Vec<f32> {
    let (mut all, mut paths): (Vec<Vec<f32>>, _) = (Vec::new(), Vec::new());
    for kernel in kernels(&kernel_text(fetch), "k") {
        let (mut asked, mut out, mut object) = (asked(), vec![0.0_f32; POINTS], [*how]);
        let mut run = Run::new(&kernel, 1, POINTS as u32);
        run.buffer(image);
        let arguments = [
            run.buffer(&mut asked),
            run.buffer(&mut out),
            run.buffer(&mut object),
            Argument::U32(CUBES as u32),
        ];
        run.launch(&arguments).unwrap();
        all.push(out);
        paths.push(kernel.path);
    }
    assert!(
        all.windows(2).all(|pair| pair[0] == pair[1]),
        "{paths:?} differ"
    );
    all.remove(0)
}

/// The forms of a fetch: of the one cube, and of a chosen one.
fn forms(mode: &str, behind: &str) -> [(bool, String); 2] {
    let form = |geometry: &str, place: &str| {
        format!(
            "tex{mode}.{geometry}.v4.f32.f32 {{%f0, %f13, %f14, %f15}}, [%rd2, {place}]{behind};"
        )
    };
    [
        (false, form("cube", "{%f1, %f2, %f3, %f3}")),
        (true, form("acube", "{%r2, %f1, %f2, %f3}")),
    ]
}

#[test]
fn a_direction_meets_its_element() {
    let number = |level: usize, face: usize, row: usize, column: usize| {
        (((level * FACES + face) * EDGE + row) * EDGE + column) as f32
    };
    let mut image = image(number);
    let how = cubes(&image);
    for (is_array, fetch) in forms("", "") {
        let got = fetched(&fetch, &mut image, &how);
        let mut faces = [false; 6];
        for (index, (asked, got)) in asked().iter().zip(got).enumerate() {
            let (face, place) = projected(direction(asked));
            faces[face] = true;
            let cube = if is_array { index % CUBES } else { 0 };
            let [column, row] = place.map(|part| ((part + 1.0) / 2.0 * EDGE as f64) as usize);
            let wanted = number(0, cube * 6 + face, row, column);
            assert_eq!(got, wanted, "{fetch} of {asked:?}");
        }
        assert_eq!(faces, [true; 6]);
    }
}

#[test]
fn gradients_of_a_direction_choose_the_level_of_its_face() {
    let mut image = image(|level, face, _, _| (level + face * LEVELS) as f32);
    let how = Descriptor {
        mipmap_filter: 1,
        ..cubes(&image)
    };
    let gradients = ", {%f4, %f5, %f6, %f6}, {%f7, %f8, %f9, %f9}";
    for (is_array, fetch) in forms(".grad", gradients) {
        let got = fetched(&fetch, &mut image, &how);
        let mut between = 0;
        for (index, (asked, got)) in asked().iter().zip(got).enumerate() {
            let (face, _) = projected(direction(asked));
            let cube = if is_array { index % CUBES } else { 0 };
            let (level, of_face) = (level(asked), ((cube * 6 + face) * LEVELS) as f64);
            // A weight has eight bits.
            let difference = (f64::from(got) - of_face - level).abs();
            assert!(difference < 0.01, "{fetch} of {asked:?}: {got}, {level}");
            between += usize::from(level > 0.0 && level < (LEVELS - 1) as f64);
        }
        assert!(between > POINTS / 3, "{between} of {POINTS} mean no end");
    }
}
