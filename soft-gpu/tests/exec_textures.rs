//! Textures and surfaces against scalar arithmetic written anew, in double precision, and what is a fault.

mod support;
#[path = "support/texels.rs"]
mod texels;

use soft_gpu::exec::{Descriptor, FaultKind, SURFACE, TEXTURE};
use support::{Argument, Kernel, Run, kernels};
use texels::{Asked, HEIGHT, WIDTH, descriptor, image, reference};

const POINTS: usize = 64;

const SAMPLE: &str = "
.version 7.0
.target sm_70
.address_size 64
.visible .entry k(.param .u64 points, .param .u64 out, .param .u64 texture)
{
    .reg .f32 %f<7>;
    .reg .b32 %r<2>;
    .reg .b64 %rd<6>;
    mov.u32 %r1, %tid.x;
    ld.param.u64 %rd1, [points];
    mul.wide.u32 %rd2, %r1, 8;
    add.u64 %rd1, %rd1, %rd2;
    ld.global.v2.f32 {%f1, %f2}, [%rd1];
    ld.param.u64 %rd3, [texture];
    tex.2d.v4.f32.f32 {%f3, %f4, %f5, %f6}, [%rd3, {%f1, %f2}];
    ld.param.u64 %rd4, [out];
    mul.wide.u32 %rd2, %r1, 16;
    add.u64 %rd4, %rd4, %rd2;
    st.global.v4.f32 [%rd4], {%f3, %f4, %f5, %f6};
    ret;
}
";

/// `suld`, an addition, and `sust` of a word at the places of the threads, and a sum of all threads in the first word.
fn surface_kernel(bounds: &str) -> String {
    format!(
        "
.version 7.0
.target sm_70
.address_size 64
.visible .entry k(.param .u64 places, .param .u64 surface, .param .u32 addend)
{{
    .reg .b32 %r<7>;
    .reg .b64 %rd<4>;
    mov.u32 %r1, %tid.x;
    ld.param.u64 %rd1, [places];
    mul.wide.u32 %rd2, %r1, 8;
    add.u64 %rd1, %rd1, %rd2;
    ld.global.v2.u32 {{%r2, %r3}}, [%rd1];
    ld.param.u64 %rd3, [surface];
    suld.b.2d.b32.{bounds} %r4, [%rd3, {{%r2, %r3}}];
    ld.param.u32 %r6, [addend];
    add.u32 %r4, %r4, %r6;
    sust.b.2d.b32.{bounds} [%rd3, {{%r2, %r3}}], %r4;
    mov.u32 %r5, 0;
    sured.b.add.2d.u32.{bounds} [%rd3, {{%r5, %r5}}], 1;
    ret;
}}
"
    )
}

fn sample(
    kernel: &Kernel,
    how: &Descriptor,
    image: &mut [f32],
    points: &mut [[f32; 2]],
) -> Vec<[f32; 4]> {
    let mut out = vec![[0.0; 4]; points.len()];
    let mut run = Run::new(kernel, 1, points.len() as u32);
    run.buffer(image);
    let mut object = [*how];
    let arguments = [
        run.buffer(points),
        run.buffer(&mut out),
        run.buffer(&mut object),
    ];
    run.launch(&arguments).unwrap();
    out
}

#[test]
fn every_filter_and_address_mode_is_what_the_guide_says() {
    for kernel in kernels(SAMPLE, "k") {
        for variant in 0..32_u32 {
            let (mode, filter, flags) = (variant & 3, variant >> 2 & 1, variant >> 3 & 1);
            let mut image = image();
            let how = Descriptor {
                address_modes: [mode, (mode + (variant >> 4)) & 3, 0],
                filter,
                flags: flags * 2,
                border: [5.0, 6.0, 7.0, 8.0],
                ..descriptor(TEXTURE, &image)
            };
            let place = |i: usize, size: usize| {
                let place = ((i * 53) % (size * 192)) as f32 / 64.0 - size as f32 + 0.005;
                if flags == 1 {
                    place / size as f32
                } else {
                    place
                }
            };
            let mut points: Vec<[f32; 2]> = (0..POINTS)
                .map(|i| [place(i, WIDTH), place(i * 7 + 3, HEIGHT)])
                .collect();
            let got = sample(&kernel, &how, &mut image, &mut points);
            for (point, got) in points.iter().zip(got) {
                let wanted = reference(&how, &image, Asked::at(*point));
                for channel in 0..2 {
                    let difference = f64::from(got[channel]) - wanted[channel];
                    // A weight may be rounded to its neighbour.
                    assert!(
                        difference.abs() < 0.11,
                        "{:?}, {variant} at {point:?}: {got:?}, {wanted:?}",
                        kernel.path
                    );
                }
            }
        }
    }
}

/// Multiplied by the size, a coordinate that is far away has no bits left for the place between two elements, or is infinite.
#[test]
fn a_coordinate_far_away_is_one_nearby() {
    const NORMALISED: u32 = 2;
    const AWAY: f32 = 1_048_576.0;
    let repeated = [
        (AWAY + 0.125, 0.125),
        (0.125 - AWAY, 0.125),
        (1.875 - AWAY, 1.875),
        (f32::MAX, 0.0),
    ];
    let outside = [
        (f32::MAX, 99.0),
        (f32::INFINITY, 99.0),
        (f32::MIN, -99.0),
        (f32::NAN, 0.0),
    ];
    for kernel in kernels(SAMPLE, "k") {
        for variant in 0..16_u32 {
            let (mode, filter, flags) = (variant & 3, variant >> 2 & 1, (variant >> 3) * 2);
            let mut image = image();
            let how = Descriptor {
                address_modes: [mode, mode, 0],
                filter,
                flags,
                border: [5.0, 6.0, 7.0, 8.0],
                ..descriptor(TEXTURE, &image)
            };
            let pairs = match (mode, flags) {
                (0 | 2, NORMALISED) => repeated,
                _ => outside,
            };
            let mut points: Vec<[f32; 2]> = pairs
                .into_iter()
                .flat_map(|(far, near)| [[far, 0.4], [near, 0.4], [0.4, far], [0.4, near]])
                .collect();
            let got = sample(&kernel, &how, &mut image, &mut points);
            for (pair, points) in got.chunks(2).zip(points.chunks(2)) {
                let path = &kernel.path;
                assert_eq!(pair[0], pair[1], "{path:?}, {variant}: {points:?}");
            }
        }
    }
}

#[test]
fn channels_that_are_not_there_are_nothing_and_opaque() {
    for kernel in kernels(SAMPLE, "k") {
        let mut image = image();
        let how = descriptor(TEXTURE, &image);
        let got = sample(&kernel, &how, &mut image, &mut [[3.5, 2.5]]);
        let at = (2 * WIDTH + 3) * 2;
        assert_eq!(got, [[image[at], image[at + 1], 0.0, 1.0]]);
    }
}

#[test]
fn what_is_no_texture_or_not_there_is_a_fault() {
    for kernel in kernels(SAMPLE, "k") {
        let (mut image, mut points, mut out) =
            (image(), vec![[0.5_f32; 2]; 1], vec![[0_f32; 4]; 1]);
        let surface = descriptor(SURFACE, &image);
        let far = Descriptor {
            base: 0x1234_5000,
            ..descriptor(TEXTURE, &image)
        };
        let huge = Descriptor {
            size: [u64::MAX; 3],
            channels: u32::MAX,
            first_level: u32::MAX,
            levels: u32::MAX,
            base: u64::MAX,
            address_modes: [3; 3],
            filter: 1,
            ..descriptor(TEXTURE, &image)
        };
        for object in [surface, far, huge] {
            let mut object = [object];
            let mut run = Run::new(&kernel, 1, 1);
            run.buffer(&mut image);
            let (points, out) = (run.buffer(&mut points), run.buffer(&mut out));
            let texture = run.buffer(&mut object);
            let fault = run.launch(&[points, out, texture]).unwrap_err();
            assert_eq!(fault.kind, FaultKind::IllegalAddress, "{fault}");
            // A value that is no address at all.
            let fault = run.launch(&[points, out, Argument::U64(7)]).unwrap_err();
            assert!(fault.to_string().contains("texture"), "{fault}");
        }
    }
}

fn change(bounds: &str, places: &[[i32; 2]]) -> (Vec<f32>, Vec<Result<(), FaultKind>>) {
    let mut words = Vec::new();
    let mut results = Vec::new();
    for kernel in kernels(&surface_kernel(bounds), "k") {
        let mut image = vec![0.0_f32; WIDTH * HEIGHT * 2];
        let mut places = places.to_vec();
        let mut object = [descriptor(SURFACE, &image)];
        let mut run = Run::new(&kernel, 1, places.len() as u32);
        run.buffer(&mut image);
        let (places, surface) = (run.buffer(&mut places), run.buffer(&mut object));
        let arguments = [places, surface, Argument::U32(100)];
        let result = run.launch(&arguments);
        results.push(result.map(|_| ()).map_err(|fault| fault.kind));
        words = image;
    }
    (words, results)
}

#[test]
fn surfaces_load_store_and_add_where_they_are_told() {
    let (words, results) = change("trap", &[[8, 2], [4, 0], [100, 6]]);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let word = |x: usize, y: usize| words[y * WIDTH * 2 + x / 4].to_bits();
    assert_eq!([word(8, 2), word(4, 0), word(100, 6)], [100; 3]);
    assert_eq!(word(0, 0), 3);
    assert_eq!(words.iter().filter(|word| word.to_bits() != 0).count(), 4);
}

#[test]
fn outside_of_a_surface_is_a_fault_or_its_edge_or_nothing() {
    let outside = [[8, HEIGHT as i32]];
    let (_, results) = change("trap", &outside);
    assert!(results.iter().all(|r| *r == Err(FaultKind::IllegalAddress)));
    let (words, results) = change("clamp", &[[9000, HEIGHT as i32]]);
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(words.last().unwrap().to_bits(), 100);
    let (words, results) = change("zero", &[[-4, 1]]);
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(
        words[1..].iter().filter(|word| word.to_bits() != 0).count(),
        0
    );
    let (_, results) = change("trap", &[[2, 1]]);
    assert!(results.iter().all(|r| *r == Err(FaultKind::Misaligned)));
}
