//! The pickle in a PyTorch checkpoint, read and never executed.
//!
//! A pickle is a program for a small stack machine that can call anything. This machine knows the opcodes that `torch.save`
//! writes for a dictionary of tensors and the handful of globals that go with them; anything else is an error that names
//! it. What it builds are plain values, and nothing it builds can be larger than the pickle.

use std::rc::Rc;

use super::{ElementType, WeightsProblem as Problem};

/// A tensor as the pickle describes it: a view of a storage.
#[derive(Debug, PartialEq)]
pub(super) struct View {
    /// Which storage.
    pub(super) key: Rc<str>,
    pub(super) element: ElementType,
    /// First element in the storage.
    pub(super) offset: u64,
    pub(super) shape: Vec<u64>,
    /// Elements from one to the next, per dimension.
    pub(super) strides: Vec<u64>,
}

/// Reads the dictionary of tensors that a pickle holds, in its order.
pub(super) fn tensors(pickle: &[u8]) -> Result<Vec<(String, Rc<View>)>, Problem> {
    let mut machine = Machine { pickle, at: 0, stack: Vec::new(), marks: Vec::new(), memo: Vec::new() };
    let top = machine.run()?;
    let malformed = |what| Problem::Pickle { at: pickle.len(), what };
    let Value::Dict(entries) = top else { return Err(malformed("what it makes is not a dictionary")) };
    let tensor = |(name, value): (Rc<str>, Value)| match value {
        Value::Tensor(view) => Some((name.to_string(), view)),
        _ => None,
    };
    let tensors: Option<_> = entries.into_iter().map(tensor).collect();
    tensors.ok_or_else(|| malformed("the dictionary holds something other than tensors"))
}

/// What may be named. A storage stands for its element type.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Global {
    OrderedDict,
    RebuildTensor,
    Storage(ElementType),
}

impl Global {
    fn named(module: &str, name: &str) -> Option<Global> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
            ("torch", "FloatStorage") => Global::Storage(ElementType::F32),
            ("torch", "HalfStorage") => Global::Storage(ElementType::F16),
            ("torch", "BFloat16Storage") => Global::Storage(ElementType::BF16),
            ("torch", "DoubleStorage") => Global::Storage(ElementType::F64),
            ("torch", "LongStorage") => Global::Storage(ElementType::I64),
            ("torch", "IntStorage") => Global::Storage(ElementType::I32),
            ("torch", "ByteStorage") => Global::Storage(ElementType::U8),
            ("torch", "BoolStorage") => Global::Storage(ElementType::Bool),
            _ => return None,
        })
    }
}

#[derive(Clone, Debug)]
enum Value {
    /// None, and what is of no interest: a container that was remembered before it was filled, a dictionary's attributes.
    Nothing,
    Flag,
    Int(i64),
    Text(Rc<str>),
    Tuple(Rc<Tuple>),
    Dict(Vec<(Rc<str>, Value)>),
    Global(Global),
    Storage(Rc<str>, ElementType),
    Tensor(Rc<View>),
}

#[derive(Debug)]
struct Tuple {
    items: Vec<Value>,
    depth: usize,
}

/// Tuples in tuples; a tensor needs two. Dropping a deep one takes as many stack frames.
const MAX_DEPTH: usize = 8;

struct Machine<'a> {
    pickle: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: Vec<Value>,
}

impl<'a> Machine<'a> {
    fn malformed<T>(&self, what: &'static str) -> Result<T, Problem> {
        Err(Problem::Pickle { at: self.at, what })
    }

    fn run(&mut self) -> Result<Value, Problem> {
        loop {
            let at = self.at;
            let [opcode] = self.take()?;
            match opcode {
                b'.' => return self.pop(),
                0x80 => self.protocol()?,
                b'(' => self.marks.push(self.stack.len()),
                b'}' => self.stack.push(Value::Dict(Vec::new())),
                b')' => self.push_tuple(Vec::new())?,
                b't' => self.mark_to_tuple()?,
                0x85..=0x87 => self.small_tuple(opcode as usize - 0x84)?,
                b'N' => self.stack.push(Value::Nothing),
                0x88 | 0x89 => self.stack.push(Value::Flag),
                b'J' | b'K' | b'M' | 0x8a => self.integer(opcode)?,
                b'X' => self.text()?,
                b'q' | b'r' => self.remember(opcode == b'r')?,
                b'h' | b'j' => self.recall(opcode == b'j')?,
                b'c' => self.global()?,
                b'Q' => self.storage()?,
                b'R' => self.call()?,
                b's' => self.set_items(self.stack.len().saturating_sub(2))?,
                b'u' => {
                    let mark = self.pop_mark()?;
                    self.set_items(mark)?;
                }
                b'b' => self.attributes()?,
                _ => return Err(Problem::PickleOpcode { opcode, at }),
            }
        }
    }

    fn bytes(&mut self, n: usize) -> Result<&'a [u8], Problem> {
        let bytes = self.pickle.get(self.at..).and_then(|rest| rest.get(..n));
        let Some(bytes) = bytes else { return self.malformed("it ends in the middle") };
        self.at += n;
        Ok(bytes)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        Ok(self.bytes(N)?.try_into().expect("as many as asked for"))
    }

    fn line(&mut self) -> Result<&'a str, Problem> {
        let rest = &self.pickle[self.at..];
        let line = rest.iter().position(|b| *b == b'\n').and_then(|end| std::str::from_utf8(&rest[..end]).ok());
        let Some(line) = line else { return self.malformed("a name does not end") };
        self.at += line.len() + 1;
        Ok(line)
    }

    /// Never reaches below the innermost mark.
    fn pop(&mut self) -> Result<Value, Problem> {
        if self.stack.len() <= self.marks.last().copied().unwrap_or(0) {
            return self.malformed("the stack is empty");
        }
        Ok(self.stack.pop().expect("it is not empty"))
    }

    fn pop_mark(&mut self) -> Result<usize, Problem> {
        self.marks.pop().map_or_else(|| self.malformed("there is no mark"), Ok)
    }

    fn protocol(&mut self) -> Result<(), Problem> {
        match self.take()? {
            [2] => Ok(()),
            _ => self.malformed("its protocol is not 2"),
        }
    }

    fn push_tuple(&mut self, items: Vec<Value>) -> Result<(), Problem> {
        let depth = |v: &Value| if let Value::Tuple(t) = v { t.depth } else { 0 };
        let depth = 1 + items.iter().map(depth).max().unwrap_or(0);
        if depth > MAX_DEPTH {
            return self.malformed("tuples are nested too deeply");
        }
        // A dictionary in a tuple would be copied with it, at every recall.
        if items.iter().any(|v| matches!(v, Value::Dict(entries) if !entries.is_empty())) {
            return self.malformed("a dictionary stands in a tuple");
        }
        self.stack.push(Value::Tuple(Rc::new(Tuple { items, depth })));
        Ok(())
    }

    fn mark_to_tuple(&mut self) -> Result<(), Problem> {
        let mark = self.pop_mark()?;
        let items = self.stack.split_off(mark);
        self.push_tuple(items)
    }

    fn small_tuple(&mut self, n: usize) -> Result<(), Problem> {
        let mut items = Vec::with_capacity(n);
        for _ in 0..n {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push_tuple(items)
    }

    fn integer(&mut self, opcode: u8) -> Result<(), Problem> {
        let value = match opcode {
            b'K' => self.take::<1>()?[0].into(),
            b'M' => u16::from_le_bytes(self.take()?).into(),
            b'J' => i32::from_le_bytes(self.take()?).into(),
            _ => {
                let [len] = self.take()?;
                let bytes = self.bytes(len.into())?;
                if bytes.len() > 8 {
                    return self.malformed("a number has more than 64 bits");
                }
                let sign = if bytes.last().is_some_and(|b| *b >= 0x80) { 0xff } else { 0 };
                let mut whole = [sign; 8];
                whole[..bytes.len()].copy_from_slice(bytes);
                i64::from_le_bytes(whole)
            }
        };
        self.stack.push(Value::Int(value));
        Ok(())
    }

    fn text(&mut self) -> Result<(), Problem> {
        let len = u32::from_le_bytes(self.take()?) as usize;
        match std::str::from_utf8(self.bytes(len)?) {
            Ok(text) => self.stack.push(Value::Text(text.into())),
            Err(_) => return self.malformed("a text is not UTF-8"),
        }
        Ok(())
    }

    fn index(&mut self, long: bool) -> Result<usize, Problem> {
        Ok(if long { u32::from_le_bytes(self.take()?) as usize } else { self.take::<1>()?[0].into() })
    }

    /// Numbers the top of the stack; `torch.save` counts up from 0.
    fn remember(&mut self, long: bool) -> Result<(), Problem> {
        let index = self.index(long)?;
        let top = self.pop()?;
        if index != self.memo.len() {
            return self.malformed("what is remembered is not numbered in order");
        }
        // A dictionary is remembered before it is filled, and no one asks for it later.
        self.memo.push(if matches!(top, Value::Dict(_)) { Value::Nothing } else { top.clone() });
        self.stack.push(top);
        Ok(())
    }

    fn recall(&mut self, long: bool) -> Result<(), Problem> {
        let index = self.index(long)?;
        let Some(value) = self.memo.get(index) else { return self.malformed("it recalls what it never made") };
        self.stack.push(value.clone());
        Ok(())
    }

    fn global(&mut self) -> Result<(), Problem> {
        let (module, name) = (self.line()?, self.line()?);
        let global = Global::named(module, name);
        let global = global.ok_or_else(|| Problem::PickleGlobal { name: format!("{module}.{name}") })?;
        self.stack.push(Value::Global(global));
        Ok(())
    }

    /// `('storage', type, key, device, elements)`.
    fn storage(&mut self) -> Result<(), Problem> {
        if let Value::Tuple(id) = self.pop()?
            && let [Value::Text(kind), Value::Global(Global::Storage(element)), Value::Text(key), _, _] = &id.items[..]
            && **kind == *"storage"
        {
            self.stack.push(Value::Storage(key.clone(), *element));
            return Ok(());
        }
        self.malformed("a storage is not described as one")
    }

    fn call(&mut self) -> Result<(), Problem> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let Value::Tuple(arguments) = arguments else { return self.malformed("a call has no arguments") };
        let made = match (callee, &arguments.items[..]) {
            (Value::Global(Global::OrderedDict), []) => Value::Dict(Vec::new()),
            (Value::Global(Global::RebuildTensor), [storage, offset, shape, strides, ..]) => {
                let view = view(storage, offset, shape, strides);
                view.map_or_else(|| self.malformed("a tensor is not described as one"), |v| Ok(Value::Tensor(v)))?
            }
            _ => return self.malformed("it calls what cannot be called"),
        };
        self.stack.push(made);
        Ok(())
    }

    /// Moves pairs from above `start` into the dictionary below.
    fn set_items(&mut self, start: usize) -> Result<(), Problem> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let below = start.checked_sub(1).filter(|below| *below >= floor && start <= self.stack.len());
        let Some(below) = below else { return self.malformed("there is nothing to put items into") };
        let items = self.stack.split_off(start);
        let Value::Dict(entries) = &mut self.stack[below] else {
            return self.malformed("items are put into something other than a dictionary");
        };
        if !items.len().is_multiple_of(2) {
            return self.malformed("a key has no value");
        }
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            let Value::Text(key) = key else {
                return Err(Problem::Pickle { at: self.at, what: "a key is not a text" });
            };
            // Versions of modules, which nothing here needs; and no nesting that someone would have to drop.
            entries.push((key, if matches!(value, Value::Dict(_)) { Value::Nothing } else { value }));
        }
        Ok(())
    }

    /// A dictionary's attributes: versions of modules.
    fn attributes(&mut self) -> Result<(), Problem> {
        let _ = self.pop()?;
        match self.stack.last() {
            Some(Value::Dict(_)) => Ok(()),
            _ => self.malformed("attributes are given to something other than a dictionary"),
        }
    }
}

fn view(storage: &Value, offset: &Value, shape: &Value, strides: &Value) -> Option<Rc<View>> {
    let number = |v: &Value| if let Value::Int(n) = v { u64::try_from(*n).ok() } else { None };
    let numbers = |v: &Value| match v {
        Value::Tuple(t) => t.items.iter().map(number).collect::<Option<Vec<u64>>>(),
        _ => None,
    };
    let Value::Storage(key, element) = storage else { return None };
    let (shape, strides) = (numbers(shape)?, numbers(strides)?);
    let offset = number(offset).filter(|_| shape.len() == strides.len())?;
    Some(Rc::new(View { key: key.clone(), element: *element, offset, shape, strides }))
}
