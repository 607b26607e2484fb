// Package settings is the agent's configuration: one struct whose tags give
// the parser, the defaults, the checks, the names of the environment variables
// and the reference page, so that none of them can disagree.
//
// It promises that Load finds everything that is wrong, in the file and in the
// environment, in one go, each with its line and column; that a setting it
// does not know is an error; and that a proxy password never leaves it by way
// of printing or marshalling.
package settings

import "reflect"

//go:generate go test -run ^TestGenerated$ -update .

// Settings is what agent.toml and the environment may say. The zero value is
// not useful; start from Default or Load. A Settings is plain data: two are
// compared with reflect.DeepEqual, and it is safe for concurrent reading.
//
// The tags of the fields, table by table:
//
//	toml     the key
//	default  the default, written as in the environment
//	allow    the allowed values, separated by |
//	min,max  the allowed range, both ends included
//	step     the value is a whole multiple of it
//	rule     a check of its own, see check.go
//	vars     the variables that a topic template may use, separated by |
//	doc      one or more sentences for the reference page
type Settings struct {
	Cloud     Cloud     `toml:"cloud" doc:"The connection to AWS IoT Core."`
	Identity  Identity  `toml:"identity" doc:"The device key."`
	Init      Init      `toml:"init" doc:"The message that is sent once, after the first accepted connection."`
	Telemetry Telemetry `toml:"telemetry" doc:"What the gateway itself measures."`
	Buffer    Buffer    `toml:"buffer" doc:"Store and forward."`
	Local     Local     `toml:"local" doc:"Where other programs on the gateway hand in their messages, over MQTT."`
	Shadow    Shadow    `toml:"shadow" doc:"The device shadow."`
	Log       Log       `toml:"log" doc:"The agent's own log."`
}

// Cloud is the table [cloud].
type Cloud struct {
	Endpoint    string   `toml:"endpoint" default:"" rule:"endpoint" doc:"The data endpoint of your account and Region, such as xxxx-ats.iot.us-west-2.amazonaws.com, or host:port; 8883 is the default port. While it is empty the agent waits."`
	ServerCA    string   `toml:"server_ca" default:"" rule:"absolute-path" doc:"File with the PEM certificates of the roots that sign the endpoint's certificate. Empty: the system's store."`
	ThingName   string   `toml:"thing_name" default:"" rule:"thing-name" doc:"The name of the thing, which is the MQTT client id too. Empty: the common name of the device certificate."`
	Port443     string   `toml:"port_443" default:"fallback" allow:"never|fallback|always" doc:"Whether to speak MQTT on port 443 with ALPN x-amzn-mqtt-ca: never, as a fallback where 8883 is blocked, or always."`
	Proxy       Proxy    `toml:"proxy" default:"" doc:"An HTTP proxy that is asked to CONNECT: http://[user@]host:port. Empty: none."`
	TLSMax      string   `toml:"tls_max" default:"1.2" allow:"1.2|1.3" doc:"The highest version of TLS to offer."`
	KeepAlive   Duration `toml:"keep_alive" default:"60s" min:"30s" max:"20m" step:"1s" doc:"The MQTT keep alive."`
	Stall       Duration `toml:"stall" default:"20s" min:"1s" max:"20m" doc:"How long sent data may stay unacknowledged by TCP before the link counts as dead."`
	PublishRate int      `toml:"publish_rate" default:"90" min:"0" max:"100000" doc:"Messages per second at most; AWS discards above 100 a connection. 0: no limit."`
}

// Identity is the table [identity].
type Identity struct {
	Key       string `toml:"key" default:"auto" allow:"auto|tpm|tpm-sealed|file" doc:"Where the device key lives. auto: in the TPM where there is any sign of one, otherwise in a file."`
	Algorithm string `toml:"algorithm" default:"ecdsa-p256" allow:"ecdsa-p256|rsa-2048" doc:"The kind of a new key."`
	TPMDevice string `toml:"tpm_device" default:"/dev/tpmrm0" rule:"tpm-device" doc:"The TPM: a device node, or unix:PATH or tcp:HOST:PORT of a software TPM."`
	PCRs      []int  `toml:"pcrs" default:"" min:"0" max:"23" doc:"The platform configuration registers that a tpm-sealed key is bound to; tpm-sealed only."`
}

// Init is the table [init].
type Init struct {
	Topic string `toml:"topic" default:"init/{thing_name}" rule:"topic" vars:"thing_name" doc:"The topic of the init message."`
}

// Telemetry is the table [telemetry].
type Telemetry struct {
	Topic    string   `toml:"topic" default:"dt/{thing_name}/{source}" rule:"topic" vars:"thing_name|source" doc:"The topic of a measurement."`
	Interval Duration `toml:"interval" default:"60s" min:"1s" max:"24h" doc:"How often to measure. The shadow's desired telemetry.interval overrides it."`
	Sources  []string `toml:"sources" default:"system" allow:"system" doc:"What to measure."`
}

// Buffer is the table [buffer].
type Buffer struct {
	MaxSize    Size     `toml:"max_size" default:"64MiB" min:"1MiB" max:"1TiB" doc:"How much disk the buffer may take."`
	MaxAge     Duration `toml:"max_age" default:"168h" min:"1s" max:"87600h" doc:"How long a message is worth keeping."`
	KeepFree   Size     `toml:"keep_free" default:"64MiB" min:"0B" max:"1TiB" doc:"The buffer never fills the file system below this."`
	WhenFull   string   `toml:"when_full" default:"drop-oldest" allow:"drop-oldest|refuse-new" doc:"What a full buffer does."`
	SpillAfter Duration `toml:"spill_after" default:"2s" min:"0s" max:"10m" doc:"A message whose PUBACK is later than this goes to disk."`
	GapTopic   string   `toml:"gap_topic" default:"dt/{thing_name}/gap" rule:"topic" vars:"thing_name" doc:"The topic of the records that tell which messages were lost."`
}

// Local is the table [local].
type Local struct {
	Socket string `toml:"socket" default:"mqtt.sock" rule:"socket" doc:"The unix socket: a name in the run-time directory, or an absolute path. Empty: none."`
	Listen string `toml:"listen" default:"" rule:"loopback" doc:"A TCP address as well, such as 127.0.0.1:1883; loopback only. Empty: none."`
	Topic  string `toml:"topic" default:"dt/{thing_name}/{topic}" rule:"topic" vars:"thing_name|topic" doc:"Where a local publish to telemetry/{topic} goes."`
}

// Shadow is the table [shadow].
type Shadow struct {
	Enabled bool     `toml:"enabled" default:"true" doc:"Whether to use the classic shadow."`
	Names   []string `toml:"names" default:"" rule:"shadow-name" doc:"Named shadows besides the classic one."`
}

// Log is the table [log].
type Log struct {
	Level  string `toml:"level" default:"info" allow:"debug|info|warn|error" doc:"The lowest level that is written."`
	Format string `toml:"format" default:"auto" allow:"auto|journal|console|json" doc:"auto: the journal under systemd, otherwise lines for people."`
}

// Default is the configuration of an empty file and an empty environment.
func Default() *Settings {
	s := new(Settings)
	for _, f := range s.fields() {
		if err := f.setText(f.tag.Get("default")); err != nil {
			panic("settings: default of " + f.name() + ": " + err.Error()) // a mistake in a tag; the tests meet it
		}
	}
	return s
}

// Origin tells where the value of a key came from.
type Origin = string

// The origins, each overriding the ones before it.
const (
	FromDefault     Origin = "default"
	FromFile        Origin = "file"
	FromEnvironment Origin = "environment"
	FromShadow      Origin = "shadow"
)

// Override is a key that something stronger than the file has set.
type Override struct {
	Key   string `json:"key"`   // "cloud.endpoint"
	Value string `json:"value"` // as the environment would give it, without a password
	From  Origin `json:"from"`  // FromEnvironment or FromShadow
}

// fields lists every key of s, in the order of the reference page. Setting one
// sets it in s.
func (s *Settings) fields() []field {
	var all []field
	tables := reflect.ValueOf(s).Elem()
	for i := range tables.NumField() {
		name := tables.Type().Field(i).Tag.Get("toml")
		table := tables.Field(i)
		for j := range table.NumField() {
			tag := table.Type().Field(j).Tag
			all = append(all, field{table: name, key: tag.Get("toml"), tag: tag, value: table.Field(j)})
		}
	}
	return all
}
