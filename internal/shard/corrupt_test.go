package shard_test

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"starling/internal/shard"
)

// content is what a reader of a shard sees.
func content(s *shard.Shard) []shard.Slice {
	all := slices.Clone(s.Slices)
	for i := range all {
		all[i].Weights = slices.Clone(all[i].Weights)
	}
	return all
}

func sameContent(a, b []shard.Slice) bool {
	return slices.EqualFunc(a, b, func(a, b shard.Slice) bool {
		return a.Layer == b.Layer && a.Nth == b.Nth && a.Linear == b.Linear && a.Block == b.Block && slices.Equal(a.Weights, b.Weights)
	})
}

// reopen writes raw to path and opens it.
func reopen(t *testing.T, path string, raw []byte) ([]shard.Slice, error) {
	t.Helper()
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := shard.Open(path)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return content(s), nil
}

// Bits of the file are flipped and it is cut: it is a *CorruptError, or, for a
// bit of the padding, the very same content. TestParseFlips does the same to
// every bit, in memory.
func TestDamagedFile(t *testing.T) {
	r := random(t)
	store, _ := newStore(t)
	infos, _, _ := build(t, store, r, 5, 1)
	raw, err := os.ReadFile(infos[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "damaged.shard")
	want, err := reopen(t, path, raw)
	if err != nil {
		t.Fatal(err)
	}
	var corrupt *shard.CorruptError
	for range 200 {
		at, bit := r.IntN(len(raw)), r.IntN(8)
		damaged := slices.Clone(raw)
		damaged[at] ^= 1 << bit
		got, err := reopen(t, path, damaged)
		switch {
		case err == nil && !sameContent(got, want):
			t.Errorf("byte %d bit %d: other content", at, bit)
		case err != nil && (!errors.As(err, &corrupt) || corrupt.Path != path):
			t.Errorf("byte %d bit %d: %v", at, bit, err)
		}
	}
	for _, size := range append([]int{0, 1, 63, 64, 87, 88, len(raw) - 24, len(raw) - 1}, r.Perm(len(raw))[:50]...) {
		if _, err := reopen(t, path, raw[:size]); !errors.As(err, &corrupt) {
			t.Errorf("cut to %d of %d bytes: %v", size, len(raw), err)
		}
	}
	if _, err := reopen(t, path, append(slices.Clone(raw), 0)); !errors.As(err, &corrupt) {
		t.Errorf("one byte more: %v", err)
	}
}

func TestOpenNothing(t *testing.T) {
	if _, err := shard.Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestCloseTwice(t *testing.T) {
	store, _ := newStore(t)
	infos, _, _ := build(t, store, rand.New(rand.NewPCG(1, 1)), 2, 0)
	s, err := shard.Open(infos[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if s.Slices != nil {
		t.Error("slices of a file that is not mapped any more")
	}
}
