package frame_test

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"starling/internal/frame"
)

var sha = strings.Repeat("0123456789abcdef", 4)

func TestControl(t *testing.T) {
	for _, c := range []struct {
		name string
		info frame.Info
		ok   bool
	}{
		{"hello", &frame.HelloInfo{
			Version: 1, Token: "s3cret\x00", Name: "küche", ID: "7f", OS: "linux", Arch: "arm64",
			CPU: "Cortex-A72", Cores: 4, MemoryBytes: 8 << 30,
		}, true},
		{"hello, little known", &frame.HelloInfo{Version: 1}, true},
		{"hello of version 0", &frame.HelloInfo{}, false},
		{"long token", &frame.HelloInfo{Version: 1, Token: strings.Repeat("x", frame.MaxToken+1)}, false},
		{"long name", &frame.HelloInfo{Version: 1, Name: strings.Repeat("x", frame.MaxName+1)}, false},
		{"longest name", &frame.HelloInfo{Version: 1, Name: strings.Repeat("x", frame.MaxName)}, true},
		{"escape sequence in a name", &frame.HelloInfo{Version: 1, Name: "\x1b[2J"}, false},
		{"name that is not UTF-8", &frame.HelloInfo{Version: 1, ID: "\xff"}, false},
		{"negative cores", &frame.HelloInfo{Version: 1, Cores: -1}, false},
		{"too many cores", &frame.HelloInfo{Version: 1, Cores: frame.MaxCores + 1}, false},
		{"negative memory", &frame.HelloInfo{Version: 1, MemoryBytes: -1}, false},
		{"welcome", &frame.WelcomeInfo{Worker: "w1"}, true},
		{"welcome without a name", &frame.WelcomeInfo{}, false},
		{"assign", &frame.AssignInfo{SHA256: sha, Size: frame.MaxShardBytes}, true},
		{"assign nothing", &frame.AssignInfo{SHA256: sha}, true},
		{"negative size", &frame.AssignInfo{SHA256: sha, Size: -1}, false},
		{"size beyond the limit", &frame.AssignInfo{SHA256: sha, Size: frame.MaxShardBytes + 1}, false},
		{"short sha256", &frame.AssignInfo{SHA256: sha[:62]}, false},
		{"sha256 in capitals", &frame.AssignInfo{SHA256: strings.ToUpper(sha)}, false},
		{"sha256 as a path", &frame.AssignInfo{SHA256: "../" + sha[3:]}, false},
		{"emulate", &frame.EmulateInfo{Speed: 0.2, DelayMs: 200}, true},
		{"emulate a bad link", &frame.EmulateInfo{Speed: 1, Drop: 0.05, Corrupt: 1, Cut: true}, true},
		{"dropped share above 1", &frame.EmulateInfo{Speed: 1, Drop: 1.1}, false},
		{"negative corrupt share", &frame.EmulateInfo{Speed: 1, Corrupt: -0.1}, false},
		{"share not a number", &frame.EmulateInfo{Speed: 1, Drop: math.NaN()}, false},
		{"no speed", &frame.EmulateInfo{}, false},
		{"infinite speed", &frame.EmulateInfo{Speed: math.Inf(1)}, false},
		{"speed not a number", &frame.EmulateInfo{Speed: math.NaN()}, false},
		{"negative delay", &frame.EmulateInfo{Speed: 1, DelayMs: -1}, false},
		{"delay not a number", &frame.EmulateInfo{Speed: 1, DelayMs: math.NaN()}, false},
		{"endless delay", &frame.EmulateInfo{Speed: 1, DelayMs: frame.MaxDelayMs + 1}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := frame.Marshal(c.info)
			if !c.ok {
				if !errors.Is(err, frame.ErrControl) {
					t.Errorf("marshalled to %s, %v; want ErrControl", p, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := reflect.New(reflect.TypeOf(c.info).Elem()).Interface().(frame.Info)
			if err := frame.Unmarshal(p, got); err != nil || !reflect.DeepEqual(got, c.info) {
				t.Errorf("came back as %+v, %v; want %+v", got, err, c.info)
			}
		})
	}
}

func TestUnmarshal(t *testing.T) {
	for _, c := range []struct {
		name, json string
		ok         bool
	}{
		{"field of a later version", `{"worker":"w1","colour":"blue"}`, true},
		{"empty", ``, false},
		{"null", `null`, false},
		{"list", `[]`, false},
		{"cut short", `{"worker":"w1"`, false},
		{"two values", `{"worker":"w1"}{"worker":"w2"}`, false},
		{"number for a string", `{"worker":1}`, false},
		{"bad field", `{"worker":"\u001b"}`, false},
		{"too long", `{"worker":"w1"}` + strings.Repeat(" ", frame.MaxControl), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got frame.WelcomeInfo
			err := frame.Unmarshal([]byte(c.json), &got)
			if c.ok && (err != nil || got.Worker != "w1") {
				t.Errorf("got %+v, %v", got, err)
			}
			if !c.ok && !errors.Is(err, frame.ErrControl) {
				t.Errorf("got %+v, %v; want ErrControl", got, err)
			}
		})
	}
}

func TestReason(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"plain", "no such shard", "no such shard"},
		{"letters beyond ASCII", "zu groß", "zu groß"},
		{"control characters", "a\x1b[2J\nb", "a?[2J?b"},
		{"not UTF-8", "a\xffb", "a?b"},
		{"too long", strings.Repeat("x", frame.MaxReason+1), strings.Repeat("x", frame.MaxReason)},
		{"cut within a letter", strings.Repeat("x", frame.MaxReason-1) + "ß", strings.Repeat("x", frame.MaxReason-1) + "?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := frame.Reason(c.text); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// What Unmarshal accepts passes Check and survives another round.
func FuzzControl(f *testing.F) {
	for _, s := range []string{
		`{"version":1,"token":"t","name":"n","id":"i","os":"linux","arch":"arm","cpu":"c","cores":4,"memory_bytes":1024}`,
		`{"worker":"w1"}`, `{"sha256":"` + sha + `","size":123}`, `{"speed":0.5,"delay_ms":20}`,
		`null`, `{}`, `{"speed":1e999}`, `{"size":9223372036854775808}`, `{"worker":"\ud800"}`, "\xff",
		strings.Repeat("[", 200),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, pair := range [][2]frame.Info{
			{&frame.HelloInfo{}, &frame.HelloInfo{}},
			{&frame.WelcomeInfo{}, &frame.WelcomeInfo{}},
			{&frame.AssignInfo{}, &frame.AssignInfo{}},
			{&frame.EmulateInfo{}, &frame.EmulateInfo{}},
		} {
			if frame.Unmarshal(p, pair[0]) != nil {
				continue
			}
			again, err := frame.Marshal(pair[0])
			if err != nil {
				t.Fatalf("%s accepted as %+v, which does not encode: %v", p, pair[0], err)
			}
			if err := frame.Unmarshal(again, pair[1]); err != nil || !reflect.DeepEqual(pair[0], pair[1]) {
				t.Errorf("%+v came back as %+v, %v", pair[0], pair[1], err)
			}
		}
	})
}
