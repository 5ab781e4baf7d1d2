//! The usage of the program, as `--help` prints it.

/// Usage of the program.
pub const HELP: &str = "csms: a charging station management system for OCPP 1.6J

usage: csms [flags]
       csms user add NAME --role viewer|operator|admin [flags]     see csms user --help
       csms simulate [flags]   (stations to try it with: csms simulate --help)

  --listen ADDRESS       where to listen [127.0.0.1:8180]
  --store PLACE          where the events are kept: a folder, or postgres://user@host/database?schema=NAME, which
                         several processes may share; a password is better given as CSMS_STORE [./csms-data]
  --read-models PLACE    where transactions, meter values and reports are kept for reading: a folder, for SQLite,
                         or postgres://user@host/database, whose password is better given as CSMS_READ_MODELS
                         [read-models in the store's folder, or the store's database]
  --keys PLACE           where the keys of personal data are kept, apart from the events: a folder, or
                         postgres://user@host/database?schema=NAME, which is better given as CSMS_KEYS
                         [the store's folder with -keys behind its name, or the schema leftfold_keys of its database]
  --rebuild-read-models  have them built anew: after the store was replaced or restored
  --open, --closed       serve unknown stations and id tags, or only registered ones
                         [open on a loopback address without a token, else closed]
  --api-token TEXT       a token of an admin, for what is set up without people: Authorization: Bearer TEXT
                         [better given as CSMS_API_TOKEN: everyone here can see arguments with ps]
  --session-idle 8h      how long a login lasts without use
  --session-most 24h     how long a login lasts at most
  --stations FILE        register these stations at the start, one identity a line
  --registration STATUS  what stations are told when they start: accepted, pending or rejected [accepted]
  --no-read-configuration
                         do not ask stations for their configuration after a start
  --vendors NAME,NAME    take the messages (DataTransfer) of these vendors from stations [none]
  --call-timeout 30s     how long a station may take to answer
  --offline-after 120s   how long a station may be silent before it counts as offline
  --start-within 60s     how long a connector is kept for a remote start
  --heartbeat-interval 60s
                         how often stations are to send heartbeats
  --keep-heartbeats      record heartbeats too
  --lax-subprotocol      take stations that spell the subprotocol ocpp1.6 in capitals, or offer none

The way in of stations, besides --listen:

  --stations-listen ADDRESS  for stations alone, not encrypted (security profiles 0 and 1)
  --tls-listen ADDRESS   for stations on encrypted connections, which show a key or a password (profile 2)
  --mtls-listen ADDRESS  for stations on encrypted connections, which show a certificate (profile 3)
  --tls-cert FILE, --tls-key FILE
                         certificate of the server with those that lead to its authority, and its key, as PEM;
                         they are read again when they change
  --station-ca FILE      authorities that sign the certificates of stations, as PEM
  --signing-cert FILE, --signing-key FILE
                         an authority, as PEM, that signs the certificates that stations ask for (SignCertificate);
                         --station-ca must have it, too
  --organisation NAME    organisation that such a request must name [any]
  --station-cert-days 365
                         days for which such a certificate is valid, up to 3650
  --key-pepper-file FILE a secret that is not in the store, by which the keys of stations are hashed; or --key-pepper
                         TEXT, better given as CSMS_KEY_PEPPER
  --trusted-proxies LIST addresses of proxies that do TLS for csms, such as 10.0.0.7,192.0.2.0/24: of them
                         x-forwarded-for, x-forwarded-proto and the name header are believed
  --proxy-name-header NAME
                         in which they name the owner of a station's verified certificate [x-ssl-client-cn]
  --connections-max 20000, --connections-of-prefix-max 16000
                         connections at once in all, and of one address prefix (24 bits of IPv4, 48 of IPv6)
  --messages-per-second 200
                         messages of a station in a second; more wait
  --handshake-within 10s how long a caller may take for the handshake of TLS, and for the head of a request
  --body-within 30s      how long the body of a request may take to come

A station without a key, a password or a certificate is known by its registered identity alone, which anyone can claim.
Where others can reach the address, give each one a key (POST /api/stations/ID/key), which it shows by
basic authentication, and have it connect by TLS: here, or at a proxy before csms.

Each flag can be given by the environment: --call-timeout as CSMS_CALL_TIMEOUT=30s.
RUST_LOG is not read; CSMS_LOG=debug says more on standard error.";
