package worker_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"starling/internal/engine"
	"starling/internal/frame"
	"starling/internal/kernel"
	"starling/internal/tensor"
)

// A shard that a liar made: its checksums are right, but a result would be
// beyond what the link carries. It is not held, and not a panic.
func TestShardOfHugeResult(t *testing.T) {
	conv := kernel.Conv3D{Conv2D: kernel.Conv2D{
		N: 1, C: 1, H: 1, W: 1, M: 1, KH: 1, KW: 1, StrideH: 1, StrideW: 1, DilationH: 1, DilationW: 1, Groups: 1,
		PadTop: 1 << 13, PadLeft: 1 << 13, OH: 1<<13 + 1, OW: 1<<13 + 1, // 256 MiB and a little
	}}
	linear := engine.Linear{Op: "Conv", Rows: 1, Cols: 1, Outer: 1, Inner: conv.OH * conv.OW, Conv: conv}
	if err := linear.Validate(); err != nil {
		t.Fatal(err)
	}
	one := map[string]any{"type": tensor.Float32, "shape": []int{1, 1, 1, 1}}
	stage := map[string]any{
		"opset": 13, "input": one, "constants": []any{one}, "output": 2,
		"nodes": []any{map[string]any{
			"op": "Conv", "in": []int{0, 1}, "out": []int{2}, "attrs": map[string]any{"pads": map[string]any{"ints": []int{1 << 13, 1 << 13, 0, 0}}},
		}},
	}
	t.Run("layer", func(t *testing.T) { refusesHuge(t, "linear", linear) })
	t.Run("stage", func(t *testing.T) { refusesHuge(t, "stage", stage) })
}

// refusesHuge has a worker be given a shard of one slice, and dial anew. No plan has
// such a slice, so the file of another is rewritten; see package shard.
func refusesHuge(t *testing.T, key string, slice any) {
	t.Helper()
	infos := shards(t, 1, 1)
	raw, err := os.ReadFile(infos[0].Path)
	if err != nil {
		t.Fatal(err)
	}
	sum := func(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }
	text, err := json.Marshal(map[string]any{"slices": []any{
		map[string]any{"layer": 0, "block": 1, key: slice, "offset": 64, "crc": sum(raw[64:68])},
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := append(slices.Clone(raw[:128]), text...)
	file = binary.LittleEndian.AppendUint32(file, uint32(len(text)))
	file = binary.LittleEndian.AppendUint32(file, sum(text))
	file = binary.LittleEndian.AppendUint64(file, uint64(len(file)+16))
	file = append(file, raw[:8]...)
	infos[0].Path = filepath.Join(t.TempDir(), "liar.shard")
	if err := os.WriteFile(infos[0].Path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	infos[0].Size, infos[0].SHA256 = int64(len(file)), fmt.Sprintf("%x", sha256.Sum256(file))
	inRoom(t, nil, func(_ *testing.T, b *boss) {
		b.assign(infos[0])
		b.hear(frame.Want)
		b.give(infos[0], 0)
		b.hearNothing()
		b.meet()
	})
}
