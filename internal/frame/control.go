package frame

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Protocol is the version of what workers and coordinators say over frames; a
// worker of another one is refused.
const Protocol = 3

// Limits of control payloads. Strings are counted in bytes.
const (
	MaxToken      = 512     // HelloInfo.Token
	MaxName       = 128     // every other string of an Info
	MaxReason     = 4 << 10 // Refuse and Failed
	MaxCores      = 1 << 16
	MaxShardBytes = 1 << 40   // AssignInfo.Size; the worker's disk is the real limit
	MaxDelayMs    = 3_600_000 // EmulateInfo.DelayMs, JitterMs: one hour
)

// ErrControl is wrapped by every error for a control payload that is not
// JSON, or that says something impossible.
var ErrControl = errors.New("bad control payload")

// Info is the payload of a control frame.
type Info interface {
	// Check says whether every field is within its bounds; its error wraps
	// ErrControl.
	Check() error
}

// HelloInfo is what a worker says of itself. Token is the secret that admits
// it, empty where none is set. ID stays the same when a worker comes back;
// Name is for people. Cores and MemoryBytes are 0 where unknown.
type HelloInfo struct {
	Version     int    `json:"version"` // Protocol of the worker
	Token       string `json:"token,omitempty"`
	Name        string `json:"name"`
	ID          string `json:"id"`
	OS          string `json:"os"`
	Arch        string `json:"arch"`
	CPU         string `json:"cpu"`
	Cores       int    `json:"cores"`
	MemoryBytes int64  `json:"memory_bytes"`
}

// WelcomeInfo tells a worker the name by which the coordinator knows it, as "w1".
type WelcomeInfo struct {
	Worker string `json:"worker"`
}

// AssignInfo names the shard file that a worker shall hold.
type AssignInfo struct {
	SHA256 string `json:"sha256"` // of the file, 64 lower-case hex digits
	Size   int64  `json:"size"`   // bytes
	// Description is the CRC-32C of the file's description: one that is kept under
	// that name is not hashed anew, but must have it.
	Description uint32 `json:"description"`
}

// EmulateInfo makes a worker or its link worse, in labs only. Each one replaces
// the one before.
type EmulateInfo struct {
	Speed   float64 `json:"speed"`    // computing takes 1/Speed as long; 1 is real speed
	DelayMs float64 `json:"delay_ms"` // waited before each answer
	Drop    float64 `json:"drop"`     // so many of the answers, from 0 to 1, must be sent again
	Corrupt float64 `json:"corrupt"`  // so many of them arrive with other bytes
	Wrong   float64 `json:"wrong"`    // so many of them have a wrong value, under a right checksum
	Cut     bool    `json:"cut"`      // nothing comes through any more, either way

	// JitterMs: up to so much more is waited before each answer.
	JitterMs float64 `json:"jitter_ms"`
	// Mute: nothing that it sends comes through until it has dialled anew; it
	// still hears.
	Mute bool `json:"mute"`
}

// Check implements Info. Only the token may be unprintable.
func (i *HelloInfo) Check() error {
	if i.Version < 1 {
		return fmt.Errorf("%w: version %d", ErrControl, i.Version)
	}
	if len(i.Token) > MaxToken {
		return fmt.Errorf("%w: token of %d bytes, limit %d", ErrControl, len(i.Token), MaxToken)
	}
	for _, s := range []struct{ key, value string }{
		{"name", i.Name}, {"id", i.ID}, {"os", i.OS}, {"arch", i.Arch}, {"cpu", i.CPU},
	} {
		if err := checkName(s.key, s.value); err != nil {
			return err
		}
	}
	if i.Cores < 0 || i.Cores > MaxCores {
		return fmt.Errorf("%w: %d cores", ErrControl, i.Cores)
	}
	if i.MemoryBytes < 0 {
		return fmt.Errorf("%w: %d bytes of memory", ErrControl, i.MemoryBytes)
	}
	return nil
}

// Check implements Info.
func (i *WelcomeInfo) Check() error {
	if i.Worker == "" {
		return fmt.Errorf("%w: worker without a name", ErrControl)
	}
	return checkName("worker", i.Worker)
}

// Check implements Info.
func (i *AssignInfo) Check() error {
	if b, err := hex.DecodeString(i.SHA256); err != nil || len(b) != 32 || i.SHA256 != strings.ToLower(i.SHA256) {
		return fmt.Errorf("%w: sha256 is not 64 lower-case hex digits", ErrControl)
	}
	if i.Size < 0 || i.Size > MaxShardBytes {
		return fmt.Errorf("%w: shard of %d bytes, limit %d", ErrControl, i.Size, int64(MaxShardBytes))
	}
	return nil
}

// Check implements Info.
func (i *EmulateInfo) Check() error {
	if !(i.Speed > 0) || math.IsInf(i.Speed, 0) { // also refuses NaN
		return fmt.Errorf("%w: speed %v is not a positive number", ErrControl, i.Speed)
	}
	for _, ms := range []float64{i.DelayMs, i.JitterMs} {
		if !(ms >= 0 && ms <= MaxDelayMs) {
			return fmt.Errorf("%w: delay of %v ms, limit %d", ErrControl, ms, MaxDelayMs)
		}
	}
	for _, share := range []float64{i.Drop, i.Corrupt, i.Wrong} {
		if !(share >= 0 && share <= 1) {
			return fmt.Errorf("%w: share %v is not from 0 to 1", ErrControl, share)
		}
	}
	return nil
}

// checkName demands valid, printable text of at most MaxName bytes: names end
// up in tables on people's terminals.
func checkName(key, s string) error {
	if len(s) > MaxName {
		return fmt.Errorf("%w: %s of %d bytes, limit %d", ErrControl, key, len(s), MaxName)
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("%w: %s %q is not printable text", ErrControl, key, s)
	}
	return nil
}

// Marshal encodes a control payload after checking it, so that nothing leaves
// that Unmarshal would refuse.
func Marshal(v Info) ([]byte, error) {
	if err := v.Check(); err != nil {
		return nil, err
	}
	p, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrControl, err)
	}
	return p, nil
}

// Unmarshal decodes a control payload of at most MaxControl bytes into v and
// checks it; v keeps nothing of p. Unknown fields are ignored, so that a later
// version may add some. Every error wraps ErrControl; v is then undefined.
func Unmarshal(p []byte, v Info) error {
	if len(p) > MaxControl {
		return fmt.Errorf("%w: %d bytes, limit %d", ErrControl, len(p), MaxControl)
	}
	if err := json.Unmarshal(p, v); err != nil {
		return fmt.Errorf("%w: %w", ErrControl, err)
	}
	return v.Check()
}

// Reason is the text of a Refuse or Failed payload, both when making one
// ([]byte(frame.Reason(…))) and when reading one: cut to MaxReason bytes,
// with what cannot be printed replaced by '?'.
func Reason(text string) string {
	text = text[:min(len(text), MaxReason)]
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}
