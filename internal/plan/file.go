package plan

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"starling/internal/wire"
)

// maxFile is the largest plan file in bytes.
const maxFile = 1 << 20

// file is the YAML of a plan; docs/cli.md describes it.
type file struct {
	Workers    int         `yaml:"workers"`
	Parity     int         `yaml:"parity"`
	Redundancy string      `yaml:"redundancy"`
	Split      string      `yaml:"split"`
	Wire       string      `yaml:"wire"`
	Speeds     []float64   `yaml:"speeds"`
	MemoryMB   []float64   `yaml:"memory_mb"`
	Layers     []fileLayer `yaml:"layers"`
}

type fileLayer struct {
	Layer      string    `yaml:"layer"`
	To         string    `yaml:"to"`
	Split      string    `yaml:"split"`
	Redundancy string    `yaml:"redundancy"`
	Wire       string    `yaml:"wire"`
	Data       []string  `yaml:"data"`
	Shares     []float64 `yaml:"shares"`
	Spare      []string  `yaml:"spare"`
}

// unknownKey is how package yaml says that a type of ours lacks a key.
var unknownKey = regexp.MustCompile(`field (.*?) not found in type plan\.\w+`)

// ReadFile reads a plan's options from a YAML file of 1 MiB at most. What it
// leaves out is as the command line's defaults: 4 workers and 1 parity.
func ReadFile(path string) (Options, error) {
	f, err := os.Open(path)
	if err != nil {
		return Options{}, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(raw) > maxFile {
		err = fmt.Errorf("more than %d bytes", maxFile)
	}
	var opt Options
	if err == nil {
		opt, err = parseFile(raw)
	}
	if err != nil {
		return opt, fmt.Errorf("plan %s: %w", path, err)
	}
	return opt, nil
}

func parseFile(raw []byte) (Options, error) {
	var whole yaml.Node
	if yaml.Unmarshal(raw, &whole) == nil && crowded(&whole) {
		return Options{}, fmt.Errorf("more than %d keys in one place", maxKeys)
	}
	in := file{Workers: 4, Parity: 1, Redundancy: Parity, Split: Auto}
	d := yaml.NewDecoder(bytes.NewReader(raw))
	d.KnownFields(true)
	if err := d.Decode(&in); err != nil && !errors.Is(err, io.EOF) { // an empty file says nothing
		return Options{}, errors.New(unknownKey.ReplaceAllString(strings.ReplaceAll(err.Error(), "\n", " "), "unknown key $1"))
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Options{}, errors.New("more than one document")
	}
	opt := Options{Data: in.Workers, Parity: in.Parity, Redundancy: in.Redundancy, Split: in.Split, Speeds: in.Speeds}
	var err error
	if opt.Wire, err = wire.Parse(in.Wire); err != nil {
		return opt, err
	}
	for _, mb := range in.MemoryMB {
		if !(mb > 0 && mb < 1e9) {
			return opt, fmt.Errorf("memory_mb of %v: must be above 0 and below 1e9", mb)
		}
		opt.Memory = append(opt.Memory, int64(mb*1e6))
	}
	for _, l := range in.Layers {
		for _, name := range []string{l.Layer, l.To} {
			if strings.ContainsFunc(name, unicode.IsControl) { // it stands in messages of one line
				return opt, fmt.Errorf("layer %q has control characters", name)
			}
		}
		set := Setting{Node: l.Layer, To: l.To, Split: l.Split, Redundancy: l.Redundancy, Shares: l.Shares}
		if set.Data, err = workers(l.Data); err == nil {
			set.Spare, err = workers(l.Spare)
		}
		if err == nil && l.Wire != "" {
			var e wire.Encoding
			e, err = wire.Parse(l.Wire)
			set.Wire = &e
		}
		if err != nil {
			return opt, fmt.Errorf("layer %s: %w", l.Layer, err)
		}
		opt.Layers = append(opt.Layers, set)
	}
	return opt, nil
}

// maxKeys is more keys than any of our types has. Package yaml compares each key of a
// mapping with each other, which takes minutes for what a file of maxFile can have.
const maxKeys = 64

// crowded says whether some mapping has more keys than that.
func crowded(n *yaml.Node) bool {
	return n.Kind == yaml.MappingNode && len(n.Content) > 2*maxKeys ||
		slices.ContainsFunc(n.Content, crowded)
}

// workers parses names as w1.
func workers(names []string) ([]int, error) {
	var list []int
	for _, name := range names {
		number, ok := strings.CutPrefix(name, "w")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || n < 1 {
			return nil, fmt.Errorf("worker %q: they are named w1, w2 and so on", name)
		}
		list = append(list, n-1)
	}
	return list, nil
}
