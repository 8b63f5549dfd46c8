package campaign

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// Checkpoint keeps the finished cells of an interrupted campaign in a file: one
// line of JSON each, after one with the campaign's key. It is a convenience, not
// evidence: a report rests on it as on the machine that wrote it. A nil
// Checkpoint keeps nothing.
type Checkpoint struct {
	mu   sync.Mutex
	file *os.File                   // guarded by mu
	kept map[string]json.RawMessage // finished cells by name; read-only
}

// kept is one line.
type keptCell struct {
	Cell  string
	Tally json.RawMessage
}

// OpenCheckpoint opens or begins a file. The key says what the cells depend on
// beside their names: module, seed, families, the tool's version. A file of
// another key is an error. A torn last line is dropped.
func OpenCheckpoint(path, key string) (c *Checkpoint, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	c = &Checkpoint{file: file, kept: map[string]json.RawMessage{}}
	lines := bufio.NewReader(file)
	end := int64(0) // of the last whole line
	for first := true; ; first = false {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if first {
			var have string
			if err := json.Unmarshal(line, &have); err != nil || have != key {
				return nil, fmt.Errorf("%s keeps cells of %s, this campaign is %s: remove it or name another file", path, line[:len(line)-1], key)
			}
		} else {
			var k keptCell
			if err := json.Unmarshal(line, &k); err != nil {
				break // what follows was not written in order; measure it again
			}
			c.kept[k.Cell] = k.Tally
		}
		end += int64(len(line))
	}
	if err := file.Truncate(end); err != nil {
		return nil, err
	}
	if _, err := file.Seek(end, io.SeekStart); err != nil {
		return nil, err
	}
	if end == 0 {
		err = c.write(key)
	}
	return c, err
}

func (c *Checkpoint) write(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err = c.file.Write(append(b, '\n'))
	return err
}

// load fills a tally from a kept cell, if it holds as many passes.
func (c *Checkpoint) load(name string, passes int, t *tally) bool {
	if c == nil || c.kept[name] == nil {
		return false
	}
	var kept tally
	if err := json.Unmarshal(c.kept[name], &kept); err != nil || kept.Passes != passes {
		return false
	}
	*t = kept
	return true
}

// save keeps a finished cell.
func (c *Checkpoint) save(name string, t *tally) error {
	if c == nil {
		return nil
	}
	b, err := json.Marshal(t)
	if err != nil {
		return err
	}
	return c.write(keptCell{name, b})
}

// Close closes the file.
func (c *Checkpoint) Close() error {
	if c == nil {
		return nil
	}
	return c.file.Close()
}
