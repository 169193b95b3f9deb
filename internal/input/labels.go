package input

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
)

// maxLabelBytes limits a file of labels.
const maxLabelBytes = 1 << 24

// Class is one answer of a classifier.
type Class struct {
	Class int
	Label string // "" where there are no labels
	Score float32
}

// MarshalJSON writes a score that JSON has no number for, NaN or infinite, as
// null.
func (c Class) MarshalJSON() ([]byte, error) {
	var score *float32
	if v := float64(c.Score); !math.IsNaN(v) && !math.IsInf(v, 0) {
		score = &c.Score
	}
	return json.Marshal(struct {
		Class int      `json:"class"`
		Label string   `json:"label"`
		Score *float32 `json:"score"`
	}{c.Class, c.Label, score})
}

// ReadLabels reads a file of labels, one a line; line i, from 0, is the label
// of class i, so that empty lines count.
func ReadLabels(path string) ([]string, error) {
	f, size, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > maxLabelBytes {
		return nil, fmt.Errorf("%s: has %d bytes, limit %d; give a file with one label a line", path, size, maxLabelBytes)
	}
	b, err := readN(f, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	labels := parseLabels(string(b))
	if labels == nil {
		return nil, fmt.Errorf("%s: is empty; give a file with one label a line", path)
	}
	return labels, nil
}

// parseLabels is nil if there are none.
func parseLabels(text string) []string {
	text = strings.TrimSuffix(text, "\n")
	if text == "" {
		return nil
	}
	labels := strings.Split(text, "\n")
	for i, l := range labels {
		labels[i] = strings.TrimSuffix(l, "\r")
	}
	return labels
}

// Top returns the n best classes, or fewer where there are fewer scores: the
// highest score first, equal ones by class, NaNs last. A class beyond the
// labels has none.
func Top(scores []float32, labels []string, n int) []Class {
	all := make([]Class, len(scores))
	for i, s := range scores {
		all[i] = Class{Class: i, Score: s}
		if i < len(labels) {
			all[i].Label = labels[i]
		}
	}
	// cmp.Compare puts NaN before every number.
	slices.SortStableFunc(all, func(a, b Class) int { return cmp.Compare(b.Score, a.Score) })
	return all[:min(max(n, 0), len(all))]
}
