//! `csms user`: users from the command line, on a store that no server has open, on a store in
//! PostgreSQL, or through a server that runs.

use std::ffi::OsString;
use std::io::Read;

use crate::ServerStartError;
use crate::confidential::Confidential;
use crate::config::{Config, ConfigError, Invocation};
use crate::domain::person::{AccessRole, LoginName};
use crate::people::{Act, NewAccount, People, PeopleError, random_text};
use crate::remote_api::{RemoteApi, RemoteApiError};
use crate::start::open_once;

/// Usage of `csms user`.
pub const USER_HELP: &str = "csms user: people who may log in

usage: csms user add NAME --role viewer|operator|admin [flags]
       csms user password NAME [flags]

  --password-stdin       take the password from standard input, its first line [one is drawn and shown once]
  --server URL           through a server that runs, as http://127.0.0.1:8180, with the token of an admin in
                         CSMS_API_TOKEN; a folder that a server has open can be changed in no other way
  --store, --keys        where events and keys are, as for the server

An admin also does it on the page /users.";

/// Bytes of standard input that are read at most.
const STDIN_BYTES_MAX: u64 = 4_096;
/// Author of what is done from the command line on a store.
const AUTHOR: &str = "command-line";

/// Request of `csms user`.
#[derive(Debug)]
pub struct UserCommandLine {
    task: UserTask,
    name: String,
    takes_stdin: bool,
    server: Option<String>,
    config: Box<Config>,
}

#[derive(Debug)]
enum UserTask {
    Add(AccessRole),
    Password,
}

/// Error of `csms user`.
#[derive(Debug, thiserror::Error)]
pub enum UserCommandError {
    /// The arguments are not as they are written.
    #[error("{0}; see csms user --help")]
    Usage(&'static str),
    /// The flags of the server cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store or its keys cannot be opened.
    #[error("{0}; if a server has it open, go through that: --server http://ADDRESS")]
    Open(Box<ServerStartError>),
    /// Standard input cannot be read.
    #[error("the password cannot be read from standard input: {0}")]
    Stdin(std::io::Error),
    /// The server does not do it.
    #[error(transparent)]
    Remote(#[from] RemoteApiError),
    /// There is no user of that name.
    #[error("there is no such user; add it with csms user add NAME --role ROLE")]
    Unknown,
    /// It cannot be done.
    #[error("{0}")]
    People(String),
}

impl From<PeopleError> for UserCommandError {
    fn from(error: PeopleError) -> Self {
        Self::People(error.to_string())
    }
}

impl UserCommandLine {
    /// Reads the arguments behind `csms user`; `None` if they ask for the usage.
    ///
    /// # Errors
    /// [`UserCommandError::Usage`] or [`UserCommandError::Config`].
    pub fn read(
        arguments: impl IntoIterator<Item = OsString>,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Option<Self>, UserCommandError> {
        let (mut words, mut role, mut server, mut takes_stdin) = (Vec::new(), None, None, false);
        let mut rest = Vec::new();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.to_str() {
                Some("--help" | "-h") => return Ok(None),
                Some("--password-stdin") => takes_stdin = true,
                Some("--role") => role = arguments.next(),
                Some("--server") => server = arguments.next(),
                Some(flag) if flag.starts_with("--") => {
                    let is_whole = flag.contains('=');
                    rest.push(argument);
                    if !is_whole {
                        rest.extend(arguments.next());
                    }
                }
                Some(word) => words.push(word.to_owned()),
                None => return Err(UserCommandError::Usage("an argument is no text")),
            }
        }
        let role = role.map(|role| AccessRole::of_name(&role.to_string_lossy()));
        let (task, name) = match (words.as_slice(), role) {
            ([verb, name], Some(Some(role))) if verb == "add" => (UserTask::Add(role), name),
            ([verb, _], _) if verb == "add" => {
                return Err(UserCommandError::Usage("--role is viewer, operator or admin"));
            }
            ([verb, name], None) if verb == "password" => (UserTask::Password, name),
            _ => return Err(UserCommandError::Usage("say add NAME or password NAME")),
        };
        let Invocation::Serve(config) = Config::read(rest, environment)? else { return Ok(None) };
        let server = server.map(|url| url.to_string_lossy().into_owned());
        Ok(Some(Self { task, name: name.clone(), takes_stdin, server, config }))
    }

    /// Does it, and returns what to print.
    ///
    /// # Errors
    /// See [`UserCommandError`].
    pub async fn run(self) -> Result<String, UserCommandError> {
        let (password, drawn) = if self.takes_stdin {
            (from_stdin()?, None)
        } else {
            let drawn = random_text().map_err(PeopleError::from)?;
            (Confidential::new(drawn.clone()), Some(drawn))
        };
        match &self.server {
            Some(url) => {
                let api = RemoteApi::at(url, self.config.api_token.clone())?;
                self.run_there(&api, &password).await?;
            }
            None => self.run_here(&password).await?,
        }
        let done = match self.task {
            UserTask::Add(role) => format!("added the user {} with the role {role}", self.name),
            UserTask::Password => {
                format!("changed the password of {}, whose sessions ended", self.name)
            }
        };
        Ok(match drawn {
            Some(drawn) => {
                format!("{done}\npassword: {drawn}   (shown once; change it at /account)")
            }
            None => done,
        })
    }

    async fn run_there(
        &self,
        api: &RemoteApi,
        password: &Confidential,
    ) -> Result<(), UserCommandError> {
        match self.task {
            UserTask::Add(role) => api.add_user(&self.name, role.name(), password).await?,
            UserTask::Password => {
                let id = api.user_id(&self.name).await?.ok_or(UserCommandError::Unknown)?;
                api.change_password(&id, password).await?;
            }
        }
        Ok(())
    }

    async fn run_here(&self, password: &Confidential) -> Result<(), UserCommandError> {
        let opened = open_once(&self.config).await;
        let (store, keys) = opened.map_err(|(error, _)| UserCommandError::Open(error.into()))?;
        let done = match People::new(&store, keys, self.config.sessions) {
            Ok(people) => self.change(&people, password.clone()).await,
            Err(error) => Err(PeopleError::from(error).into()),
        };
        if let Err(error) = store.close().await {
            tracing::warn!(%error, "the store did not close in order");
        }
        done
    }

    async fn change(
        &self,
        people: &People,
        password: Confidential,
    ) -> Result<(), UserCommandError> {
        let act = Act::new(AUTHOR.into(), None);
        match self.task {
            UserTask::Add(role) => {
                people.add(NewAccount { name: &self.name, role, password }, &act).await?;
            }
            UserTask::Password => {
                let name = LoginName::new(&self.name).ok_or(UserCommandError::Unknown)?;
                let id = people.id_of(&name).await?.ok_or(UserCommandError::Unknown)?;
                people.change_password(&id, &password, &act).await?;
            }
        }
        Ok(())
    }
}

fn from_stdin() -> Result<Confidential, UserCommandError> {
    let mut text = String::new();
    let read = std::io::stdin().take(STDIN_BYTES_MAX).read_to_string(&mut text);
    read.map_err(UserCommandError::Stdin)?;
    Ok(Confidential::new(text.lines().next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &str) -> Result<Option<UserCommandLine>, String> {
        let arguments = arguments.split(' ').map(OsString::from);
        UserCommandLine::read(arguments, |_| None).map_err(|error| error.to_string())
    }

    #[test]
    fn a_user_is_added_by_name_and_role_on_the_store_that_the_server_has() {
        let line = read("add ada --role admin --store data --keys=secrets").unwrap().unwrap();
        assert!(matches!(line.task, UserTask::Add(AccessRole::Admin)) && line.name == "ada");
        assert_eq!((line.config.store.as_str(), line.config.keys.reveal()), ("data", "secrets"));
        let line = read("password ada --server http://127.0.0.1:8180 --password-stdin");
        let line = line.unwrap().unwrap();
        assert!(line.takes_stdin && line.server.as_deref() == Some("http://127.0.0.1:8180"));
        assert!(read("--help").unwrap().is_none());
    }

    #[test]
    fn what_is_missing_or_unknown_is_said() {
        for (arguments, said) in [
            ("add ada", "--role"),
            ("add ada --role king", "viewer, operator or admin"),
            ("add", "add NAME"),
            ("drop ada", "add NAME"),
            ("add ada --role admin --frobnicate x", "--frobnicate"),
        ] {
            let refused = read(arguments).unwrap_err();
            assert!(refused.contains(said) && refused.contains("--help"), "{arguments}: {refused}");
        }
    }
}
