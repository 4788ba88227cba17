//! What is set of core dumps, for the application or for one context.
//!
//! *Rules:* the deprecated attributes are bits of the flags; what a variable of the environment said is fixed, and setting it to anything else is not permitted; names are kept as
//! they were given, and become those of a file when one is written.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use super::value::Value;
use super::{NO_USER_TRIGGER, flags};
use crate::result::CUresult;

const ENABLE: &str = "CUDA_ENABLE_COREDUMP_ON_EXCEPTION";
const ENABLE_HOST: &str = "CUDA_ENABLE_CPU_COREDUMP_ON_EXCEPTION";
const LIGHTWEIGHT: &str = "CUDA_ENABLE_LIGHTWEIGHT_COREDUMP";
const USER_TRIGGER: &str = "CUDA_ENABLE_USER_TRIGGERED_COREDUMP";
const FILE: &str = "CUDA_COREDUMP_FILE";
const PIPE: &str = "CUDA_COREDUMP_PIPE";
const FLAGS: &str = "CUDA_COREDUMP_GENERATION_FLAGS";

/// The variables that say how core dumps are made.
pub const VARIABLES: [&str; 7] = [
    ENABLE,
    ENABLE_HOST,
    LIGHTWEIGHT,
    USER_TRIGGER,
    FILE,
    PIPE,
    FLAGS,
];

/// The words of the variable for flags.
const WORDS: [(&str, u32); 11] = [
    (
        "skip_nonrelocated_elf_images",
        flags::SKIP_NONRELOCATED_ELF_IMAGES,
    ),
    ("skip_global_memory", flags::SKIP_GLOBAL_MEMORY),
    ("skip_shared_memory", flags::SKIP_SHARED_MEMORY),
    ("skip_local_memory", flags::SKIP_LOCAL_MEMORY),
    ("skip_abort", flags::SKIP_ABORT),
    ("skip_constbank_memory", flags::SKIP_CONSTBANK_MEMORY),
    ("gzip_compress", flags::GZIP_COMPRESS),
    ("faulted_contexts_only", flags::FAULTED_CONTEXTS_ONLY),
    ("skip_tensor_memory", flags::SKIP_TENSOR_MEMORY),
    ("no_errbar_at_exit", flags::NO_ERRBAR_AT_EXIT),
    ("log_only", flags::LOG_ONLY),
];

/// The attributes, `CU_COREDUMP_…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// Whether exceptions of kernels are dumped.
    EnableOnException,
    /// Whether the process aborts then.
    TriggerHost,
    /// Whether memory and images are left out.
    Lightweight,
    /// Whether writing to the pipe triggers a dump.
    EnableUserTrigger,
    /// The dump's name.
    File,
    /// The pipe's name.
    Pipe,
    /// What is left out.
    GenerationFlags,
}

impl Setting {
    /// The attribute of a number.
    ///
    /// # Errors
    /// INVALID_VALUE: there is none.
    pub const fn of(number: u32) -> Result<Self, CUresult> {
        match number {
            1 => Ok(Self::EnableOnException),
            2 => Ok(Self::TriggerHost),
            3 => Ok(Self::Lightweight),
            4 => Ok(Self::EnableUserTrigger),
            5 => Ok(Self::File),
            6 => Ok(Self::Pipe),
            7 => Ok(Self::GenerationFlags),
            _ => Err(CUresult::INVALID_VALUE),
        }
    }

    /// The attribute of a number as a context has it: the pipe is the application's.
    ///
    /// # Errors
    /// INVALID_VALUE: there is none. NOT_PERMITTED: it cannot be set for a context.
    pub fn of_context(number: u32) -> Result<Self, CUresult> {
        match Self::of(number)? {
            Self::EnableUserTrigger | Self::Pipe => Err(CUresult::NOT_PERMITTED),
            setting => Ok(setting),
        }
    }
}

/// What is set, for the application or for one context.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    is_enabled: bool,
    flags: u32,
    file: Option<Vec<u8>>,
    pipe: Option<Vec<u8>>,
    fixed: Fixed,
}

/// What the environment said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Fixed {
    enabled: bool,
    /// Those of the flags.
    flags: u32,
    file: bool,
    pipe: bool,
}

impl Settings {
    /// What the environment says; what in it cannot be had is told to `warn`.
    pub fn from_environment(
        variable: impl Fn(&str) -> Option<OsString>,
        mut warn: impl FnMut(String),
    ) -> Self {
        let said = |name: &str| variable(name).filter(|value| !value.is_empty());
        let mut flag = |name: &str| -> Option<bool> {
            let value = said(name)?;
            match value.to_str() {
                Some("1") => Some(true),
                Some("0") => Some(false),
                _ => {
                    warn(format!(
                        "{name}={} is neither 0 nor 1; it is not taken",
                        value.display()
                    ));
                    None
                }
            }
        };
        let (enabled, host) = (flag(ENABLE), flag(ENABLE_HOST));
        let (lightweight, user_trigger) = (flag(LIGHTWEIGHT), flag(USER_TRIGGER));
        let mut settings = Self {
            is_enabled: enabled == Some(true),
            file: said(FILE).map(OsString::into_vec),
            pipe: said(PIPE).map(OsString::into_vec),
            ..Self::default()
        };
        if let Some(words) = said(FLAGS) {
            settings.flags = flags_named(&words.to_string_lossy(), &mut warn);
            settings.fixed.flags = u32::MAX;
        }
        for (said, bits) in [
            (host.map(|aborts| !aborts), flags::SKIP_ABORT),
            (lightweight, flags::LIGHTWEIGHT),
        ] {
            if said == Some(true) {
                settings.flags |= bits;
            }
            if said.is_some() {
                settings.fixed.flags |= bits;
            }
        }
        if user_trigger == Some(true) {
            warn(format!("{USER_TRIGGER}=1: {NO_USER_TRIGGER}"));
        }
        settings.fixed.enabled = enabled.is_some();
        settings.fixed.file = settings.file.is_some();
        settings.fixed.pipe = settings.pipe.is_some();
        settings
    }

    /// What a context begins with that was created with these flags.
    #[must_use]
    pub fn for_context(&self, context_flags: u32) -> Self {
        let asked = context_flags & (super::CONTEXT_ENABLE | super::CONTEXT_USER_ENABLE) != 0;
        Self {
            is_enabled: self.is_enabled || (asked && !self.fixed.enabled),
            ..self.clone()
        }
    }

    /// Whether exceptions are dumped.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.is_enabled
    }

    /// What dumps leave out.
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.flags
    }

    /// Whether the process aborts behind a dump.
    #[must_use]
    pub fn aborts(&self) -> bool {
        self.flags & flags::SKIP_ABORT == 0
    }

    /// Whether a file is written.
    #[must_use]
    pub fn writes_file(&self) -> bool {
        self.flags & flags::LOG_ONLY == 0
    }

    /// The file of a dump that is written now.
    #[must_use]
    pub fn file_name(&self) -> PathBuf {
        const SUFFIX: &[u8] = b".gz";
        let pattern = self.name(Setting::File);
        let mut name = expand(&pattern);
        if self.is_compressed() && !name.ends_with(SUFFIX) {
            name.extend_from_slice(SUFFIX);
        }
        PathBuf::from(OsString::from_vec(name))
    }

    /// Whether the file is compressed.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.flags & flags::GZIP_COMPRESS != 0
    }

    fn name(&self, setting: Setting) -> Cow<'_, [u8]> {
        let (given, kind) = match setting {
            Setting::Pipe => (&self.pipe, "corepipe"),
            _ => (&self.file, "core"),
        };
        match given {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(expand(format!("{kind}.cuda.%h.%p").as_bytes())),
        }
    }

    /// The value of an attribute.
    #[must_use]
    pub fn get(&self, setting: Setting) -> Value {
        match setting {
            Setting::EnableOnException => Value::Bool(self.is_enabled),
            Setting::TriggerHost => Value::Bool(self.aborts()),
            Setting::Lightweight => {
                Value::Bool(self.flags & flags::LIGHTWEIGHT == flags::LIGHTWEIGHT)
            }
            // Nobody can set it to anything else.
            Setting::EnableUserTrigger => Value::Bool(false),
            Setting::File | Setting::Pipe => Value::Text(self.name(setting).into_owned()),
            Setting::GenerationFlags => Value::Flags(self.flags),
        }
    }

    /// Sets an attribute.
    ///
    /// # Errors
    /// INVALID_VALUE: it has no such value. NOT_PERMITTED: the environment said otherwise. NOT_SUPPORTED: [`NO_USER_TRIGGER`].
    pub fn set(&mut self, setting: Setting, value: Value) -> Result<(), CUresult> {
        let with = |bits: u32, is_set: bool| match is_set {
            true => self.flags | bits,
            false => self.flags & !bits,
        };
        match (setting, value) {
            (Setting::EnableOnException, Value::Bool(enabled)) => {
                permit(!self.fixed.enabled || enabled == self.is_enabled)?;
                self.is_enabled = enabled;
            }
            (Setting::TriggerHost, Value::Bool(aborts)) => {
                self.set_flags(with(flags::SKIP_ABORT, !aborts))?;
            }
            (Setting::Lightweight, Value::Bool(is_light)) => {
                self.set_flags(with(flags::LIGHTWEIGHT, is_light))?;
            }
            (Setting::EnableUserTrigger, Value::Bool(true)) => {
                return Err(CUresult::NOT_SUPPORTED);
            }
            (Setting::EnableUserTrigger, Value::Bool(false)) => {}
            (Setting::File, Value::Text(name)) => {
                permit(!self.fixed.file || self.file.as_ref() == Some(&name))?;
                self.file = Some(name);
            }
            (Setting::Pipe, Value::Text(name)) => {
                permit(!self.fixed.pipe || self.pipe.as_ref() == Some(&name))?;
                self.pipe = Some(name);
            }
            (Setting::GenerationFlags, Value::Flags(flags)) => self.set_flags(flags)?,
            _ => return Err(CUresult::INVALID_VALUE),
        }
        Ok(())
    }

    fn set_flags(&mut self, flags: u32) -> Result<(), CUresult> {
        if flags & !flags::ALL != 0 {
            return Err(CUresult::INVALID_VALUE);
        }
        permit((flags ^ self.flags) & self.fixed.flags == 0)?;
        self.flags = flags;
        Ok(())
    }
}

fn permit(is_permitted: bool) -> Result<(), CUresult> {
    match is_permitted {
        true => Ok(()),
        false => Err(CUresult::NOT_PERMITTED),
    }
}

/// The flags that words with commas between name.
fn flags_named(words: &str, warn: &mut impl FnMut(String)) -> u32 {
    let mut flags = 0;
    for word in words.split(',').map(str::trim).filter(|it| !it.is_empty()) {
        let is_it = |(name, _): &&(&str, u32)| name.eq_ignore_ascii_case(word);
        match WORDS.iter().find(is_it) {
            Some((_, bit)) => flags |= bit,
            None => warn(format!("{FLAGS}: '{word}' is none of its words")),
        }
    }
    flags
}

/// Puts the machine (`%h`), the process (`%p`) and the time (`%t`) into a name.
fn expand(pattern: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(pattern.len());
    let mut rest = pattern.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            name.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'h') => {
                let machine = rustix::system::uname();
                name.extend_from_slice(OsStr::from_bytes(machine.nodename().to_bytes()).as_bytes());
            }
            Some(b'p') => name.extend_from_slice(std::process::id().to_string().as_bytes()),
            Some(b't') => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                let seconds = now.map_or(0, |time| time.as_secs());
                name.extend_from_slice(seconds.to_string().as_bytes());
            }
            Some(b'%') => name.push(b'%'),
            // What means nothing stays as it is.
            Some(other) => name.extend_from_slice(&[b'%', other]),
            None => name.push(b'%'),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> (Settings, Vec<String>) {
        let mut warnings = Vec::new();
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let settings = Settings::from_environment(variable, |text| warnings.push(text));
        (settings, warnings)
    }

    #[test]
    fn without_a_word_nothing_is_dumped_and_a_dump_would_abort() {
        let (settings, warnings) = of(&[]);
        assert!(warnings.is_empty());
        assert!(!settings.is_enabled() && settings.aborts() && settings.flags() == 0);
        let Value::Text(name) = settings.get(Setting::File) else {
            panic!("a name is text")
        };
        let name = String::from_utf8(name).expect("text");
        let end = format!(".{}", std::process::id());
        assert!(
            name.starts_with("core.cuda.") && name.ends_with(&end),
            "{name}"
        );
        assert_eq!(settings.file_name(), PathBuf::from(name));
    }

    #[test]
    fn what_the_environment_says_stays() {
        let (mut settings, warnings) = of(&[
            (ENABLE, "1"),
            (ENABLE_HOST, "0"),
            (FILE, "/x/%p.core"),
            (LIGHTWEIGHT, "yes"),
        ]);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(settings.is_enabled() && !settings.aborts());
        let denied = Err(CUresult::NOT_PERMITTED);
        let set = |settings: &mut Settings, setting, value| settings.set(setting, value);
        let off = Value::Bool(false);
        assert_eq!(
            set(&mut settings, Setting::EnableOnException, off.clone()),
            denied
        );
        assert_eq!(
            set(&mut settings, Setting::TriggerHost, Value::Bool(true)),
            denied
        );
        assert_eq!(set(&mut settings, Setting::TriggerHost, off), Ok(()));
        let name = Value::Text(b"other".to_vec());
        assert_eq!(set(&mut settings, Setting::File, name), denied);
        // What it did not speak of can be set.
        let light = Value::Flags(flags::LIGHTWEIGHT | flags::SKIP_ABORT);
        assert_eq!(set(&mut settings, Setting::GenerationFlags, light), Ok(()));
        assert_eq!(settings.get(Setting::Lightweight), Value::Bool(true));
        assert_eq!(
            set(&mut settings, Setting::GenerationFlags, Value::Flags(0)),
            denied
        );
        let expected = format!("/x/{}.core", std::process::id());
        assert_eq!(settings.file_name(), PathBuf::from(expected));
    }

    #[test]
    fn flags_are_words() {
        let words = "skip_global_memory, GZIP_COMPRESS,nothing";
        let (settings, warnings) = of(&[(FLAGS, words), (USER_TRIGGER, "1")]);
        assert_eq!(
            settings.flags(),
            flags::SKIP_GLOBAL_MEMORY | flags::GZIP_COMPRESS
        );
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(settings.file_name().to_string_lossy().ends_with(".gz"));
    }

    #[test]
    fn deprecated_attributes_are_flags() {
        let mut settings = Settings::default();
        let mut set = |setting, value| settings.set(setting, value);
        set(Setting::TriggerHost, Value::Bool(false)).expect("set");
        set(Setting::Lightweight, Value::Bool(true)).expect("set");
        assert_eq!(settings.flags(), flags::LIGHTWEIGHT | flags::SKIP_ABORT);
        settings
            .set(Setting::Lightweight, Value::Bool(false))
            .expect("set");
        assert_eq!(settings.flags(), flags::SKIP_ABORT);
        let invalid = settings.set(Setting::GenerationFlags, Value::Flags(1 << 20));
        assert_eq!(invalid, Err(CUresult::INVALID_VALUE));
    }

    #[test]
    fn a_flag_of_a_context_enables_its_dumps() {
        let settings = Settings::default();
        assert!(!settings.for_context(0).is_enabled());
        for flag in [
            super::super::CONTEXT_ENABLE,
            super::super::CONTEXT_USER_ENABLE,
        ] {
            assert!(settings.for_context(flag).is_enabled());
        }
        let (off, _) = of(&[(ENABLE, "0")]);
        assert!(!off.for_context(super::super::CONTEXT_ENABLE).is_enabled());
    }

    #[test]
    fn names_have_the_machine_the_process_and_the_time() {
        let name = String::from_utf8(expand(b"a%%%h-%p-%t%x%")).expect("text");
        let machine = rustix::system::uname();
        let machine = machine.nodename().to_string_lossy();
        let begin = format!("a%{machine}-{}-1", std::process::id());
        assert!(name.starts_with(&begin), "{name}");
        assert!(name.ends_with("%x%"), "{name}");
    }
}
