package shard_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"testing"

	"starling/internal/shard"
)

func infoOf(raw []byte) shard.Info {
	sum := sha256.Sum256(raw)
	return shard.Info{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(raw))}
}

func TestReceive(t *testing.T) {
	raw := []byte("any bytes: a store does not look into them")
	store, dir := newStore(t)
	want := infoOf(raw)
	in, err := store.Receive(want)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(raw); i += 10 {
		if in.Done() || in.Size() != int64(i) {
			t.Errorf("after %d bytes: done %v, size %d", i, in.Done(), in.Size())
		}
		if _, err := in.Write(raw[i:min(i+10, len(raw))]); err != nil {
			t.Fatal(err)
		}
	}
	if !in.Done() {
		t.Error("not done")
	}
	if err := in.Finish(); err != nil {
		t.Fatal(err)
	}
	in.Abandon()
	got, err := os.ReadFile(store.Path(want.SHA256))
	if err != nil || string(got) != string(raw) {
		t.Errorf("kept %q, %v", got, err)
	}
	if names := files(t, dir); len(names) != 1 {
		t.Errorf("folder holds %v", names)
	}
}

func TestReceiveLeavesNothing(t *testing.T) {
	raw := []byte("0123456789")
	for _, c := range []struct {
		name    string
		receive func(t *testing.T, in *shard.Incoming)
	}{
		{"abandoned before a byte", func(_ *testing.T, in *shard.Incoming) { in.Abandon() }},
		{"abandoned half-way", func(t *testing.T, in *shard.Incoming) {
			if _, err := in.Write(raw[:5]); err != nil {
				t.Error(err)
			}
			in.Abandon()
			in.Abandon()
		}},
		{"too long", func(t *testing.T, in *shard.Incoming) {
			if _, err := in.Write(append(slices.Clone(raw), 'x')); err == nil {
				t.Error("took one byte more than promised")
			}
			if in.Size() != 0 {
				t.Errorf("%d bytes counted", in.Size())
			}
			in.Abandon()
		}},
		{"too short", func(t *testing.T, in *shard.Incoming) {
			if _, err := in.Write(raw[:9]); err != nil {
				t.Error(err)
			}
			finishFails(t, in)
		}},
		{"wrong bytes", func(t *testing.T, in *shard.Incoming) {
			if _, err := in.Write([]byte("0123456780")); err != nil {
				t.Error(err)
			}
			finishFails(t, in)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			store, dir := newStore(t)
			in, err := store.Receive(infoOf(raw))
			if err != nil {
				t.Fatal(err)
			}
			c.receive(t, in)
			if names := files(t, dir); len(names) != 0 {
				t.Errorf("left %v", names)
			}
		})
	}
}

func finishFails(t *testing.T, in *shard.Incoming) {
	t.Helper()
	var corrupt *shard.CorruptError
	if err := in.Finish(); !errors.As(err, &corrupt) {
		t.Errorf("got %v, want a *CorruptError", err)
	}
}

// Two processes of a machine take in the same shard at the same time.
func TestTwoReceiveTheSame(t *testing.T) {
	raw := []byte("shared")
	want := infoOf(raw)
	first, dir := newStore(t)
	second, err := shard.OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	var coming []*shard.Incoming
	for _, s := range []*shard.Store{first, second} {
		in, err := s.Receive(want)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write(raw); err != nil {
			t.Fatal(err)
		}
		coming = append(coming, in)
	}
	for _, in := range coming {
		if err := in.Finish(); err != nil {
			t.Error(err)
		}
	}
	if names := files(t, dir); !slices.Equal(names, []string{want.SHA256 + ".shard"}) {
		t.Errorf("folder holds %v", names)
	}
}
