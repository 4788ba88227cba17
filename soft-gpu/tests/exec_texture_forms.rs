//! The rarer forms of textures and surfaces: offsets, comparisons, samplers, opaque variables, queries, accesses in a surface's format.

mod support;
#[path = "support/texels.rs"]
mod texels;

use soft_gpu::exec::{Descriptor, FORCE_ELEMENTS, Program, Resource, SAMPLER, SURFACE, TEXTURE};
use soft_gpu::ptx;
use support::{Argument, Run, kernels};
use texels::{Asked, HEIGHT, WIDTH, descriptor, image, reference};

const POINTS: usize = 48;

/// A module whose kernel does `fetch` with the coordinates `%f1` and `%f2`, the depth `%f3` and the objects `%rd1` and `%rd2`, into `%f4` to `%f7`.
fn module(header: &str, fetch: &str) -> String {
    format!(
        "
.version 8.1
.target sm_70{header}
.visible .entry k(.param .u64 points, .param .u64 out, .param .u64 texture, .param .u64 sampler, .param .b32 depth)
{{
    .reg .f32 %f<8>;
    .reg .b32 %r<9>;
    .reg .b16 %h<5>;
    .reg .b64 %rd<9>;
    .reg .pred %p<5>;
    ld.param.u64 %rd1, [texture];
    ld.param.u64 %rd2, [sampler];
    ld.param.f32 %f3, [depth];
    mov.u32 %r1, %tid.x;
    ld.param.u64 %rd3, [points];
    mad.wide.u32 %rd3, %r1, 8, %rd3;
    ld.global.v2.f32 {{%f1, %f2}}, [%rd3];
    {fetch}
    ld.param.u64 %rd4, [out];
    mad.wide.u32 %rd4, %r1, 16, %rd4;
    st.global.v4.f32 [%rd4], {{%f4, %f5, %f6, %f7}};
    ret;
}}
"
    )
}

/// What the fetches give on every path, each the same.
fn fetched(
    text: &str,
    image: &mut [f32],
    points: &mut [[f32; 2]],
    objects: [&Descriptor; 2],
    depth: f32,
) -> Vec<[f32; 4]> {
    let mut all: Vec<Vec<[f32; 4]>> = Vec::new();
    let mut paths = Vec::new();
    for kernel in kernels(text, "k") {
        let mut out = vec![[0.0; 4]; points.len()];
        let (mut texture, mut sampler) = ([*objects[0]], [*objects[1]]);
        let mut run = Run::new(&kernel, 1, points.len() as u32);
        run.buffer(image);
        let (points, results) = (run.buffer(points), run.buffer(&mut out));
        let objects = [run.buffer(&mut texture), run.buffer(&mut sampler)];
        for (name, object) in ["tex", "smp"].into_iter().zip(&objects) {
            let Argument::U64(value) = object else {
                panic!("a buffer's address")
            };
            run.references.insert(name, *value);
        }
        let depth = Argument::U32(depth.to_bits());
        run.launch(&[points, results, objects[0], objects[1], depth])
            .unwrap();
        all.push(out);
        paths.push(kernel.path);
    }
    let is_same = all.windows(2).all(|pair| pair[0] == pair[1]);
    assert!(is_same, "{paths:?} differ");
    all.remove(0)
}

fn points(how: &Descriptor) -> Vec<[f32; 2]> {
    let place = |i: usize, size: usize| {
        let place = ((i * 53) % (size * 128)) as f32 / 64.0 - size as f32 / 2.0 + 0.005;
        match how.flags & 2 {
            0 => place,
            _ => place / size as f32,
        }
    };
    (0..POINTS)
        .map(|i| [place(i, WIDTH), place(i * 7 + 3, HEIGHT)])
        .collect()
}

/// Textures with every filter and address mode.
fn textures(image: &[f32]) -> Vec<Descriptor> {
    let variant = |variant: u32| Descriptor {
        address_modes: [variant & 3, (variant + 1) & 3, 0],
        filter: variant >> 2 & 1,
        flags: (variant >> 3 & 1) * 2,
        border: [5.0, 6.0, 7.0, 8.0],
        ..descriptor(TEXTURE, image)
    };
    (0..16).map(variant).collect()
}

/// Compares the first channels of what `text` fetches with the reference, of every texture.
fn agree(
    text: &str,
    sampled: impl Fn(&Descriptor) -> [Descriptor; 2],
    how: impl Fn(Asked) -> Asked,
) {
    let mut image = image();
    for wanted in textures(&image) {
        let [texture, sampler] = sampled(&wanted);
        let mut points = points(&wanted);
        let depth = how(Asked::at([0.0; 2])).compared.unwrap_or(0.0);
        let got = fetched(text, &mut image, &mut points, [&texture, &sampler], depth);
        for (point, got) in points.iter().zip(got) {
            let expected = reference(&wanted, &image, how(Asked::at(*point)));
            let difference = (f64::from(got[0]) - expected[0]).abs();
            // A weight may be rounded to its neighbour.
            assert!(
                difference < 0.11,
                "{wanted:?} at {point:?}: {got:?}, {expected:?}"
            );
        }
    }
}

fn same(how: &Descriptor) -> [Descriptor; 2] {
    [*how, *how]
}

#[test]
fn offsets_are_added_in_elements() {
    let fetch = "
    mov.u32 %r2, 3;
    tex.2d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [%rd1, {%f1, %f2}], {%r2, -5};";
    let offset = |asked| Asked {
        offset: [3, -5],
        ..asked
    };
    agree(&module("", fetch), same, offset);
    let fetch = "
    mov.f32 %f4, 0f00000000;
    tex.level.2d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [%rd1, {%f1, %f2}], %f4, {-8, 7};";
    let offset = |asked| Asked {
        offset: [-8, 7],
        ..asked
    };
    agree(&module("", fetch), same, offset);
}

#[test]
fn offsets_of_numbers_do_not_wrap() {
    let fetch = "
    cvt.rzi.s32.f32 %r2, %f1;
    tex.1d.v4.f32.s32 {%f4, %f5, %f6, %f7}, [%rd1, {%r2}], {2};";
    let mut image = image();
    let how = Descriptor {
        address_modes: [3; 3],
        border: [9.0; 4],
        ..descriptor(TEXTURE, &image)
    };
    let got = fetched(
        &module("", fetch),
        &mut image,
        &mut [[4.0, 0.0], [11.0, 0.0]],
        [&how, &how],
        0.0,
    );
    assert_eq!(got[0][..2], image[12..14]);
    assert_eq!(got[1], [9.0; 4]);
}

#[test]
fn depths_are_compared_before_they_are_filtered() {
    let fetch = "tex.2d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [%rd1, {%f1, %f2}], %f3;";
    let compared = |asked| Asked {
        compared: Some(6.5),
        ..asked
    };
    agree(&module("", fetch), same, compared);
    let fetch = "tex.2d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [%rd1, {%f1, %f2}], {-1, 2}, %f3;";
    let both = |asked| Asked {
        compared: Some(4.0),
        offset: [-1, 2],
        ..asked
    };
    agree(&module("", fetch), same, both);
}

#[test]
fn four_neighbours_are_gathered_from_the_lower_left_on() {
    /// The component's name, what stands behind the place, the offset, what is compared, the channel.
    type Case = (&'static str, &'static str, [i32; 2], Option<f32>, usize);
    let cases: [Case; 4] = [
        ("r", "", [0, 0], None, 0),
        ("g", ", {2, -1}", [2, -1], None, 1),
        ("g", "", [0, 0], None, 1),
        ("r", ", {1, 1}, %f3", [1, 1], Some(5.5), 0),
    ];
    for (name, behind, offset, compared, channel) in cases {
        let fetch = format!(
            "tld4.{name}.2d.v4.f32.f32 {{%f4, %f5, %f6, %f7}}, [%rd1, {{%f1, %f2}}]{behind};"
        );
        let mut image = image();
        for how in textures(&image) {
            let nearest = Descriptor { filter: 0, ..how };
            let mut points = points(&how);
            let depth = compared.unwrap_or(0.0);
            let got = fetched(
                &module("", &fetch),
                &mut image,
                &mut points,
                [&how, &how],
                depth,
            );
            for (point, got) in points.iter().zip(got) {
                for (index, neighbour) in [[0, 1], [1, 1], [1, 0], [0, 0]].into_iter().enumerate() {
                    // The element of the neighbour is that half an element before the point, moved.
                    let half = |value: f32, size: usize| match how.flags & 2 {
                        0 => value - 0.5,
                        _ => value - 0.5 / size as f32,
                    };
                    let asked = Asked {
                        point: [half(point[0], WIDTH), half(point[1], HEIGHT)],
                        offset: [offset[0] + neighbour[0], offset[1] + neighbour[1]],
                        compared,
                    };
                    let wanted = reference(&nearest, &image, asked)[channel];
                    assert_eq!(
                        f64::from(got[index]),
                        wanted,
                        "{name}, {how:?} at {point:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_sampler_says_how_a_texture_is_read() {
    // The texture's own way to read is another.
    let apart = |how: &Descriptor| {
        let texture = Descriptor {
            address_modes: how.address_modes.map(|mode| 3 - mode),
            filter: 1 - how.filter,
            border: [0.0; 4],
            flags: 2,
            ..*how
        };
        let sampler = Descriptor {
            flags: if how.flags & 2 == 0 {
                FORCE_ELEMENTS
            } else {
                0
            },
            size: [0; 3],
            magic: SAMPLER,
            ..*how
        };
        [texture, sampler]
    };
    let header = ", texmode_independent\n.global .texref tex;\n.global .samplerref smp;";
    let plain = |asked| asked;
    let by_name = "tex.2d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [tex, smp, {%f1, %f2}];";
    agree(&module(header, by_name), apart, plain);
    let by_value = "
    mov.u64 %rd5, smp;
    tex.2d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [%rd1, %rd5, {%f1, %f2}];";
    agree(&module(header, by_value), apart, plain);
    // Another texture's way to read.
    let of_texture = |how: &Descriptor| {
        [
            Descriptor {
                flags: how.flags,
                ..apart(how)[0]
            },
            *how,
        ]
    };
    let unified = "tex.2d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [%rd1, %rd2, {%f1, %f2}];";
    agree(&module(header, unified), of_texture, plain);
    let header = "\n.global .texref tex;";
    let by_name = "tex.2d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [tex, {%f1, %f2}];";
    agree(&module(header, by_name), same, plain);
}

#[test]
fn halves_and_the_predicate_of_residency() {
    let fetch = "
    setp.ne.s32 %p1, %r1, %r1;
    tex.2d.v4.f16.f32 {%h1, %h2, %h3, %h4}|%p1, [%rd1, {%f1, %f2}];
    cvt.f32.f16 %f4, %h1;
    cvt.f32.f16 %f5, %h2;
    cvt.f32.f16 %f6, %h4;
    selp.f32 %f7, 0f40000000, 0f00000000, %p1;";
    let mut image = image();
    let how = descriptor(TEXTURE, &image);
    let got = fetched(
        &module("", fetch),
        &mut image,
        &mut [[3.5, 2.5]],
        [&how, &how],
        0.0,
    );
    let at = (2 * WIDTH + 3) * 2;
    assert_eq!(got, [[image[at], image[at + 1], 1.0, 2.0]]);
}

/// The words that a kernel stores which asks `%rd1` and `%rd2` something, four of them.
fn asked(header: &str, questions: &str, objects: [&Descriptor; 2]) -> [u32; 4] {
    let store = "
    mov.b32 %f4, %r4;
    mov.b32 %f5, %r5;
    mov.b32 %f6, %r6;
    mov.b32 %f7, %r7;";
    let text = module(header, &format!("{questions}{store}"));
    let mut image = image();
    let got = fetched(&text, &mut image, &mut [[0.0; 2]], objects, 0.0);
    got[0].map(f32::to_bits)
}

#[test]
fn every_query_is_answered() {
    let how = Descriptor {
        size: [40, 20, 6],
        array_flags: 1,
        levels: 3,
        format: 0x08,
        channels: 4,
        filter: 1,
        flags: 2,
        address_modes: [0, 2, 1],
        ..Descriptor::new(TEXTURE, Resource::Array)
    };
    let query = |names: [&str; 4], of: &str| {
        let lines = names.iter().enumerate().map(|(index, name)| {
            let level = if name.starts_with("level") { ", 1" } else { "" };
            format!("{of}.{name}.b32 %r{}, [%rd1]{level};\n", index + 4)
        });
        lines.collect::<String>()
    };
    let textures = [
        (["width", "height", "depth", "array_size"], [40, 20, 1, 6]),
        (
            [
                "level.width",
                "level.height",
                "num_mipmap_levels",
                "num_samples",
            ],
            [20, 10, 3, 1],
        ),
        (
            [
                "channel_data_type",
                "channel_order",
                "normalized_coords",
                "filter_mode",
            ],
            [0x10d0, 0x10b5, 1, 1],
        ),
        (
            [
                "addr_mode_0",
                "addr_mode_1",
                "addr_mode_2",
                "force_unnormalized_coords",
            ],
            [0, 1, 3, 0],
        ),
    ];
    for (names, wanted) in textures {
        assert_eq!(
            asked("", &query(names, "txq"), [&how, &how]),
            wanted,
            "{names:?}"
        );
    }
    let volume = Descriptor {
        array_flags: 0,
        address_modes: [3; 3],
        flags: 1,
        ..how
    };
    let names = ["depth", "array_size", "addr_mode_0", "channel_data_type"];
    assert_eq!(
        asked("", &query(names, "txq"), [&volume, &volume]),
        [6, 1, 4, 0x10d7]
    );
    let surface = Descriptor {
        magic: SURFACE,
        format: 0x02,
        channels: 2,
        ..how
    };
    let names = [
        "channel_data_type",
        "channel_order",
        "array_size",
        "memory_layout",
    ];
    assert_eq!(
        asked("", &query(names, "suq"), [&surface, &surface]),
        [0x10db, 0x10b2, 6, 0]
    );
    let sampler = Descriptor {
        magic: SAMPLER,
        flags: FORCE_ELEMENTS,
        ..how
    };
    let names = [
        "addr_mode_1",
        "filter_mode",
        "force_unnormalized_coords",
        "addr_mode_2",
    ];
    assert_eq!(
        asked("", &query(names, "txq"), [&sampler, &sampler]),
        [1, 1, 1, 3]
    );
}

#[test]
fn the_type_of_a_value_is_told() {
    let ask = "
    istypep.texref %p1, %rd1;
    istypep.samplerref %p2, %rd1;
    istypep.surfref %p3, %rd2;
    istypep.texref %p4, %rd3;
    selp.u32 %r4, 1, 0, %p1;
    selp.u32 %r5, 1, 0, %p2;
    selp.u32 %r6, 1, 0, %p3;
    selp.u32 %r7, 1, 0, %p4;";
    let texture = Descriptor::new(TEXTURE, Resource::Array);
    let surface = Descriptor::new(SURFACE, Resource::Array);
    assert_eq!(asked("", ask, [&texture, &surface]), [1, 0, 1, 0]);
    assert_eq!(asked("", ask, [&surface, &texture]), [0, 0, 0, 0]);
}

#[test]
fn an_objects_value_is_a_parameter_of_an_opaque_type() {
    let text = "
.version 7.0
.target sm_70
.visible .entry k(.param .texref picture, .param .u64 out)
{
    .reg .b32 %r<2>;
    .reg .b64 %rd<2>;
    txq.width.b32 %r1, [picture];
    ld.param.u64 %rd1, [out];
    st.global.u32 [%rd1], %r1;
    ret;
}
";
    for kernel in kernels(text, "k") {
        let image = image();
        let (mut object, mut out) = ([descriptor(TEXTURE, &image)], [0_u32]);
        let mut run = Run::new(&kernel, 1, 1);
        let arguments = [run.buffer(&mut object), run.buffer(&mut out)];
        run.launch(&arguments).unwrap();
        assert_eq!(out, [WIDTH as u32]);
    }
}

/// What 64 bytes of a surface of two rows are after a kernel has done `access` to `%rd1` with the words `%r4` to `%r7` or `%rd4`.
fn accessed(
    access: &str,
    (format, channels): (u32, u32),
    values: [u32; 4],
    before: u8,
) -> [u8; 64] {
    let [a, b, c, d] = values;
    let text = format!(
        "
.version 8.1
.target sm_70
.visible .entry k(.param .u64 surface)
{{
    .reg .b32 %r<8>;
    .reg .b64 %rd<5>;
    ld.param.u64 %rd1, [surface];
    mov.u32 %r1, 1;
    mov.u32 %r4, {a};
    mov.u32 %r5, {b};
    mov.u32 %r6, {c};
    mov.u32 %r7, {d};
    mov.b64 %rd4, {{%r4, %r5}};
    {access}
    ret;
}}
"
    );
    let mut bytes = [before; 64];
    for kernel in kernels(&text, "k") {
        bytes = [before; 64];
        let size = match format {
            0x01 | 0x08 => 1,
            0x02 | 0x09 | 0x10 => 2,
            _ => 4,
        };
        let width = 32 / (size * u64::from(channels));
        let mut surface = [Descriptor {
            base: bytes.as_ptr() as u64,
            size: [width, 2, 0],
            format,
            channels,
            ..Descriptor::new(SURFACE, Resource::Array)
        }];
        let mut run = Run::new(&kernel, 1, 1);
        run.buffer(&mut bytes);
        let argument = run.buffer(&mut surface);
        run.launch(&[argument]).unwrap();
    }
    bytes
}

/// What is stored at element (1, 1), and that nothing else is.
fn stored(access: &str, of: (u32, u32), values: [u32; 4], bytes: usize) -> Vec<u8> {
    let all = accessed(access, of, values, 0xa5);
    let at = 32 + bytes;
    let others = all
        .iter()
        .enumerate()
        .filter(|(index, _)| !(at..at + bytes).contains(index));
    assert!(
        others.into_iter().all(|(_, byte)| *byte == 0xa5),
        "{access}: {all:x?}"
    );
    all[at..at + bytes].to_vec()
}

#[test]
fn formatted_stores_convert_to_the_surface() {
    const FOUR: &str = "sust.p.2d.v4.b32.trap [%rd1, {%r1, %r1}], {%r4, %r5, %r6, %r7};";
    const TWO: &str = "sust.p.2d.v2.b32.clamp [%rd1, {%r1, %r1}], {%r4, %r5};";
    const ONE: &str = "sust.p.2d.b32.zero [%rd1, {%r1, %r1}], %r4;";
    let signed = |values: [i32; 4]| values.map(i32::cast_unsigned);
    let floats = |values: [f32; 4]| values.map(f32::to_bits);
    assert_eq!(
        stored(FOUR, (0x01, 4), [7, 255, 256, u32::MAX], 4),
        [7, 255, 255, 255]
    );
    assert_eq!(
        stored(FOUR, (0x08, 4), signed([-1, -200, 200, 5]), 4),
        [0xff, 0x80, 0x7f, 5]
    );
    assert_eq!(
        stored(TWO, (0x02, 2), [0x1234, 0x1_0000, 0, 0], 4),
        [0x34, 0x12, 0xff, 0xff]
    );
    assert_eq!(
        stored(TWO, (0x09, 2), signed([-2, -70_000, 0, 0]), 4),
        [0xfe, 0xff, 0x00, 0x80]
    );
    assert_eq!(
        stored(ONE, (0x03, 1), [0xdead_beef, 0, 0, 0], 4),
        0xdead_beef_u32.to_le_bytes()
    );
    // A half: 1.5, and one that is rounded to even.
    let halves = floats([1.5, 2049.0, 1e6, -0.0]);
    assert_eq!(
        stored(FOUR, (0x10, 4), halves, 8),
        [0x00, 0x3e, 0x00, 0x68, 0x00, 0x7c, 0x00, 0x80]
    );
    let single = floats([-3.25, 0.0, 0.0, 0.0]);
    assert_eq!(stored(ONE, (0x20, 1), single, 4), (-3.25_f32).to_le_bytes());
    // What the surface has not is not stored.
    assert_eq!(stored(FOUR, (0x01, 1), [9, 1, 2, 3], 1), [9]);
    let layered = "sust.p.1d.v2.b32.trap [%rd1, {%r1}], {%r4, %r5};";
    assert_eq!(
        accessed(layered, (0x01, 2), [3, 4, 0, 0], 0)[..6],
        [0, 0, 3, 4, 0, 0]
    );
}

/// The word of four bytes, or of eight, at element (1, 1) after a reduction.
fn reduced(access: &str, of: (u32, u32), value: u64, before: u8, bytes: usize) -> u64 {
    let values = [value as u32, (value >> 32) as u32, 0, 0];
    let all = accessed(access, of, values, before);
    let mut word = [0; 8];
    word[..bytes].copy_from_slice(&all[32 + bytes..][..bytes]);
    u64::from_le_bytes(word)
}

#[test]
fn reductions_of_a_surfaces_elements_and_of_wide_words() {
    const UNSIGNED: (u32, u32) = (0x03, 1);
    const SIGNED: (u32, u32) = (0x0a, 1);
    const WIDE: (u32, u32) = (0x03, 2);
    let minus = u64::from(u32::MAX - 4);
    // Every byte is 0xfe, so a word is -0x01010102.
    let word = 0xfefe_fefe_u64;
    let formatted = |name: &str| format!("sured.p.{name}.2d.b32.trap [%rd1, {{%r1, %r1}}], %r4;");
    assert_eq!(reduced(&formatted("add"), UNSIGNED, 3, 0xfe, 4), word + 3);
    assert_eq!(reduced(&formatted("min"), UNSIGNED, 3, 0xfe, 4), 3);
    assert_eq!(reduced(&formatted("min"), SIGNED, 3, 0xfe, 4), word);
    assert_eq!(reduced(&formatted("max"), SIGNED, 3, 0xfe, 4), 3);
    assert_eq!(reduced(&formatted("max"), SIGNED, minus, 0xfe, 4), minus);
    assert_eq!(reduced(&formatted("and"), UNSIGNED, 0x0f, 0xfe, 4), 0x0e);
    assert_eq!(reduced(&formatted("or"), UNSIGNED, 1, 0xfe, 4), word + 1);
    let wide = word << 32 | word;
    let of_pairs = |name: &str| format!("sured.p.{name}.2d.b64.trap [%rd1, {{%r1, %r1}}], %rd4;");
    assert_eq!(
        reduced(&of_pairs("add"), WIDE, 5 << 40, 0xfe, 8),
        wide.wrapping_add(5 << 40)
    );
    assert_eq!(reduced(&of_pairs("max"), WIDE, 5 << 40, 0xfe, 8), wide);
    assert_eq!(
        reduced(&of_pairs("max"), (0x0a, 2), 5 << 40, 0xfe, 8),
        5 << 40
    );
    let bytes = |name: &str| {
        format!("mov.u32 %r2, 8;\n    sured.b.{name}.clamp [%rd1, {{%r2, %r1}}], %rd4;")
    };
    assert_eq!(
        reduced(&bytes("add.2d.u64"), WIDE, 1 << 33, 0xfe, 8),
        wide.wrapping_add(1 << 33)
    );
    assert_eq!(
        reduced(&bytes("min.2d.u64"), WIDE, 1 << 33, 0xfe, 8),
        1 << 33
    );
    assert_eq!(reduced(&bytes("min.2d.s64"), WIDE, 1 << 33, 0xfe, 8), wide);
    assert_eq!(
        reduced(&bytes("max.2d.s64"), WIDE, 1 << 33, 0xfe, 8),
        1 << 33
    );
}

#[test]
fn what_the_isa_has_not_is_refused_with_its_reason() {
    let refused = [
        (
            "tex.2dms.v4.f32.s32 {%f4, %f5, %f6, %f7}, [%rd1, {%r1, %r1, %r1, %r1}];",
            "multisampled",
        ),
        (
            "tex.a2dms.v4.f32.s32 {%f4, %f5, %f6, %f7}, [%rd1, {%r1, %r1, %r1, %r1}];",
            "multisampled",
        ),
        (
            "tex.2d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [%rd1, %rd2, {%f1, %f2}];",
            "texmode_independent",
        ),
        (
            "tex.cube.v4.f32.f32 {%f4, %f5, %f6, %f7}, [%rd1, {%f1, %f2, %f3, %f3}], {1, 1};",
            "tex.cube",
        ),
        (
            "tex.3d.v4.f32.f32 {%f4, %f5, %f6, %f7}, [%rd1, {%f1, %f2, %f3, %f3}], %f3;",
            "tex.3d",
        ),
        (
            "tex.2d.v4.f32.s32 {%f4, %f5, %f6, %f7}, [%rd1, {%r1, %r1}], %f3;",
            "tex.2d",
        ),
        ("sust.p.2d.b16.trap [%rd1, {%r1, %r1}], %h1;", "sust.p"),
        (
            "sured.p.add.2d.u32.trap [%rd1, {%r1, %r1}], %r1;",
            "sured.p",
        ),
        (
            "sured.b.and.2d.u64.trap [%rd1, {%r1, %r1}], %rd4;",
            "sured.b",
        ),
        ("suq.num_samples.b32 %r4, [%rd1];", "suq"),
        ("txq.memory_layout.b32 %r4, [%rd1];", "txq"),
    ];
    for (fetch, words) in refused {
        let parsed = ptx::parse(&module("", fetch)).unwrap();
        let error = Program::decode(&parsed, "k", &|_| None).unwrap_err();
        assert!(error.to_string().contains(words), "{fetch}: {error}");
    }
}
