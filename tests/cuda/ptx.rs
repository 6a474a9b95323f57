//! The kernels' PTX, run by a small interpreter: what the GPU is told to do, against what it is for.
//!
//! ptxas says whether the text assembles (see the head of `kernels.ptx`); this says whether it is right. Threads run one
//! after the other, which is enough for kernels that share nothing but one addition.

use std::collections::BTreeMap;

use proptest::prelude::*;
use vramplan::backend::cuda::PTX;

/// Where the memory of the interpreter begins, so that a stray address is noticed.
const BASE: u64 = 0x1000;

/// How much the global timer moves each time it is read.
const TICK: u64 = 32;

struct Machine {
    memory: Vec<u8>,
    /// How often each byte was read.
    reads: Vec<u32>,
    time: u64,
    /// Writes this value to the first four bytes once the timer has got so far.
    opens: Option<u64>,
}

/// A kernel's parameters and instructions; labels are positions.
struct Kernel {
    parameters: Vec<String>,
    code: Vec<String>,
    labels: BTreeMap<String, usize>,
}

fn kernel(name: &str) -> Kernel {
    let text: String = PTX
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n")
        .collect();
    let start = text.find(&format!(".entry {name}(")).expect("the kernel");
    let (head, rest) = text[start..].split_once('{').expect("a body");
    // A brace inside is a vector's.
    let body = &rest[..rest.find("\n}").expect("its end")];
    let parameters = head
        .split(".param .u64 ")
        .skip(1)
        .map(|part| part.trim().trim_end_matches([',', ')', '\n', ' ']).trim().to_owned())
        .collect();
    let (mut code, mut labels) = (Vec::new(), BTreeMap::new());
    for statement in body.split(';') {
        let mut statement = statement.trim();
        while let Some((label, after)) =
            statement.split_once(':').filter(|(l, _)| l.starts_with('$'))
        {
            labels.insert(label.to_owned(), code.len());
            statement = after.trim();
        }
        if !statement.is_empty() && !statement.starts_with(".reg") {
            code.push(statement.to_owned());
        }
    }
    Kernel { parameters, code, labels }
}

impl Machine {
    fn new(memory: Vec<u8>) -> Self {
        let reads = vec![0; memory.len()];
        Self { memory, reads, time: 0, opens: None }
    }

    fn launch(&mut self, name: &str, arguments: &[u64], blocks: u64, threads: u64) {
        let kernel = kernel(name);
        assert_eq!(kernel.parameters.len(), arguments.len(), "{:?}", kernel.parameters);
        for block in 0..blocks {
            for thread in 0..threads {
                let ids = [
                    ("%ctaid.x", block),
                    ("%tid.x", thread),
                    ("%ntid.x", threads),
                    ("%nctaid.x", blocks),
                ];
                let registers = ids.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
                Thread { machine: self, kernel: &kernel, arguments, registers }.run();
            }
        }
    }

    fn at(&self, address: u64, bytes: usize) -> usize {
        let at =
            usize::try_from(address.checked_sub(BASE).expect("an address of ours")).expect("small");
        assert!(at + bytes <= self.memory.len(), "{address:#x} is outside");
        assert_eq!(address % bytes as u64, 0, "{address:#x} is not aligned to {bytes}");
        at
    }

    fn load(&mut self, address: u64, bytes: usize) -> u64 {
        let at = self.at(address, bytes);
        self.reads[at..at + bytes].iter_mut().for_each(|count| *count += 1);
        self.memory[at..at + bytes].iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
    }

    fn store(&mut self, address: u64, bytes: usize, value: u64) {
        let at = self.at(address, bytes);
        self.memory[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
    }
}

struct Thread<'a> {
    machine: &'a mut Machine,
    kernel: &'a Kernel,
    arguments: &'a [u64],
    registers: BTreeMap<String, u64>,
}

impl Thread<'_> {
    fn run(mut self) {
        let mut at = 0;
        for _ in 0..1_000_000 {
            let mut line = self.kernel.code[at].as_str();
            at += 1;
            if let Some(rest) = line.strip_prefix('@') {
                let (predicate, rest) = rest.split_once(' ').expect("a predicate");
                if self.value(predicate) == 0 {
                    continue;
                }
                line = rest;
            }
            let (name, operands) = line.split_once([' ', '\n']).unwrap_or((line, ""));
            match name {
                "ret" => return,
                "bra" => at = self.kernel.labels[operands.trim()],
                _ => self.step(name, operands),
            }
        }
        panic!("a kernel that does not end");
    }

    fn value(&mut self, operand: &str) -> u64 {
        if operand == "%globaltimer" {
            self.machine.time += TICK;
            if self.machine.opens.is_some_and(|time| self.machine.time >= time) {
                self.machine.store(BASE, 4, 1);
            }
            return self.machine.time;
        }
        if let Some(hexadecimal) = operand.strip_prefix("0x") {
            return u64::from_str_radix(hexadecimal, 16).expect("a number");
        }
        if let Ok(number) = operand.parse::<i64>() {
            return number.cast_unsigned();
        }
        *self
            .registers
            .get(operand)
            .unwrap_or_else(|| panic!("{operand} is read before it is written"))
    }

    fn address(&mut self, operand: &str) -> u64 {
        self.value(operand.trim_start_matches('[').trim_end_matches(']'))
    }

    fn set(&mut self, register: &str, value: u64) {
        let narrow = register.starts_with("%r");
        self.registers
            .insert(register.to_owned(), if narrow { value & 0xFFFF_FFFF } else { value });
    }

    fn step(&mut self, name: &str, operands: &str) {
        if name == "ld.global.v4.u32" {
            let (registers, address) = operands.split_once('}').expect("a vector");
            let address = self.address(address.trim_start_matches([',', ' ']));
            self.machine.at(address, 16);
            for (n, register) in (0..).zip(registers.trim_start_matches('{').split(", ")) {
                let value = self.machine.load(address + 4 * n, 4);
                self.set(register, value);
            }
            return;
        }
        let operands: Vec<&str> = operands.split(',').map(str::trim).collect();
        if name == "ld.param.u64" {
            let parameter = operands[1].trim_matches(['[', ']']);
            let index =
                self.kernel.parameters.iter().position(|p| p == parameter).expect("a parameter");
            return self.set(operands[0], self.arguments[index]);
        }
        if name.starts_with("ld.") {
            let address = self.address(operands[1]);
            let value = self.machine.load(address, if name.ends_with("u8") { 1 } else { 4 });
            return self.set(operands[0], value);
        }
        if name == "st.global.u32" || name == "red.global.add.u64" {
            let (address, value) = (self.address(operands[0]), self.value(operands[1]));
            if name == "st.global.u32" {
                return self.machine.store(address, 4, value);
            }
            let before = self.machine.load(address, 8);
            return self.machine.store(address, 8, before.wrapping_add(value));
        }
        let v: Vec<u64> = operands[1..].iter().map(|operand| self.value(operand)).collect();
        let result = match name {
            "mov.u64" | "mov.u32" | "cvta.to.global.u64" | "cvt.u64.u32" | "cvt.u32.u64" => v[0],
            "add.u64" => v[0].wrapping_add(v[1]),
            "sub.u64" => v[0].wrapping_sub(v[1]),
            "mul.lo.u64" => v[0].wrapping_mul(v[1]),
            "mul.wide.u32" => v[0] * v[1],
            "mad.lo.u64" => v[0].wrapping_mul(v[1]).wrapping_add(v[2]),
            "min.u64" => v[0].min(v[1]),
            "max.u64" => v[0].max(v[1]),
            "and.b64" | "and.b32" => v[0] & v[1],
            "or.b64" | "or.b32" | "or.pred" => v[0] | v[1],
            "xor.b64" | "xor.b32" => v[0] ^ v[1],
            "shl.b64" | "shl.b32" => v[0] << v[1],
            "shr.u64" => v[0] >> v[1],
            "setp.lt.u64" => u64::from(v[0] < v[1]),
            "setp.ge.u64" => u64::from(v[0] >= v[1]),
            "setp.ne.u64" | "setp.ne.u32" => u64::from(v[0] != v[1]),
            _ => panic!("{name} is not known to the interpreter"),
        };
        self.set(operands[0], result);
    }
}

/// The digest by its definition, byte by byte.
fn digest(bytes: &[u8], offset: u64) -> u64 {
    let key = |position: u64| {
        let mut z = position.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) | 1
    };
    (offset..).zip(bytes).fold(0, |sum, (at, &byte)| {
        sum.wrapping_add((u64::from(byte) << (8 * (at % 4))).wrapping_mul(key(at / 4)))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_digest_kernel_is_the_definition(
        bytes in prop::collection::vec(any::<u8>(), 1..400),
        at in 0u64..9,
        offset in 0u64..5_000_000_000,
        chunk in 1u64..40,
        threads in 1u64..9,
    ) {
        let chunk = 4 * chunk;
        let blocks = (bytes.len() as u64).div_ceil(chunk);
        let data = BASE + 8 * blocks + at;
        let mut memory = vec![0; (8 * blocks + at) as usize];
        memory.extend(&bytes);
        let mut machine = Machine::new(memory);
        machine.launch("vramplan_digest", &[data, bytes.len() as u64, offset, chunk, BASE], blocks, threads);
        for (n, part) in (0..).zip(bytes.chunks(chunk as usize)) {
            prop_assert_eq!(machine.load(BASE + 8 * n, 8), digest(part, offset + n * chunk));
        }
        let data = (8 * blocks + at) as usize;
        prop_assert!(machine.reads[data..].iter().all(|&count| count == 1), "every byte is read once");
    }

    #[test]
    fn the_touch_kernel_reads_every_byte_once(bytes in 1usize..700, at in 0u64..17, blocks in 1u64..3, threads in 32u64..40) {
        let mut machine = Machine::new(vec![0x5A; 16 + at as usize + bytes]);
        machine.launch("vramplan_touch", &[BASE + 16 + at, bytes as u64, BASE], blocks, threads);
        let counts = &machine.reads[16 + at as usize..];
        prop_assert!(counts.iter().all(|&count| count == 1), "{:?}", counts);
        prop_assert!(machine.memory.iter().all(|&byte| byte == 0x5A), "nothing is written");
    }
}

#[test]
fn spin_lasts_as_long_as_it_is_told() {
    for nanos in [0, 1, 32, 1_000, 100_000] {
        let mut machine = Machine::new(Vec::new());
        machine.launch("vramplan_spin", &[nanos], 1, 1);
        assert!((nanos..=nanos + 2 * TICK).contains(&machine.time), "{nanos}: {}", machine.time);
    }
}

#[test]
fn a_gate_waits_for_the_host_and_not_for_ever() {
    let mut machine = Machine { opens: Some(5_000), ..Machine::new(vec![0; 4]) };
    machine.launch("vramplan_gate", &[BASE, 1_000_000], 1, 1);
    assert!((5_000..5_000 + 2 * TICK).contains(&machine.time));
    let mut machine = Machine::new(vec![0; 4]);
    machine.launch("vramplan_gate", &[BASE, 1_000_000], 1, 1);
    assert!((1_000_000..1_000_000 + 3 * TICK).contains(&machine.time));
}
