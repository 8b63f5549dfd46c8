package ledger

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/lacre-metrology/lacre/core/digest"
	"github.com/lacre-metrology/lacre/core/reason"
	"github.com/lacre-metrology/lacre/core/state"
	"github.com/lacre-metrology/lacre/platform/durable"
	"github.com/lacre-metrology/lacre/services/ledger/internal/fsm"
	"github.com/lacre-metrology/lacre/services/ledger/internal/storage"
)

// A backup is a tar stream: files of the store under their names, store.db
// first, then backup.json, which says what they are. In a directory they lie as
// in a data directory, so that an archive opens there.
const (
	backupManifest = "backup.json"
	backupVersion  = 1
	// BackupPath is where a replica's admin port gives its backup; have=N&packed=P
	// leaves out the first N segments but those after the Pth that were packed since.
	BackupPath = "/backup"
	// backupStall ends the connection to a reader that takes nothing for so long.
	backupStall = time.Minute
	backupChunk = 1 << 20
)

// Backup says what a backup holds.
type Backup struct {
	Version         int    `json:"version"`
	NodeID          string `json:"node_id"` // "" if it was made of a directory
	NetworkID       string `json:"network_id"`
	Height          uint64 `json:"height"` // newest block
	Header          string `json:"header"`
	Records         uint64 `json:"records"`
	CertifiedHeight uint64 `json:"certified_height"` // newest block under a certificate
	LockedHeight    uint64 `json:"locked_height"`    // newest block that this replica cosigned
	AppliedIndex    uint64 `json:"applied_index"`    // of the ordering log
	Segments        uint32 `json:"segments"`
	Packed          uint32 `json:"packed"`     // the first ones
	Cold            uint32 `json:"cold"`       // their raw vectors are in cold storage, and not in the backup
	Dropped         uint32 `json:"dropped"`    // the raw vectors of these expired and are gone
	TailBytes       int64  `json:"tail_bytes"` // of the newest segment
}

// backUp writes a backup of a store.
func backUp(ctx context.Context, store *storage.Store, nodeID, dataDir string, have storage.Held, to io.Writer) error {
	if unfinished, err := fsm.Unfinished(dataDir, store.AppliedIndex()); err != nil || unfinished {
		if err == nil {
			err = reason.New(reason.NotReady, "this replica is fetching blocks itself; make a backup of another one, or later")
		}
		return err
	}
	out := tar.NewWriter(to)
	copied, err := store.Backup(ctx, have, func(name string, size int64, content func(io.Writer) error) error {
		if err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: size, Format: tar.FormatPAX}); err != nil {
			return err
		}
		return content(out)
	})
	if err != nil {
		return err
	}
	b, err := describe(store, nodeID, copied)
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	if err := out.WriteHeader(&tar.Header{Name: backupManifest, Mode: 0o600, Size: int64(len(text)), Format: tar.FormatPAX}); err != nil {
		return err
	}
	if _, err := out.Write(text); err != nil {
		return err
	}
	return out.Close()
}

// describe says what was copied, of a store that goes on.
func describe(store *storage.Store, nodeID string, copied storage.Copied) (*Backup, error) {
	if copied.Blocks == 0 {
		return nil, errors.New("the store has no genesis block")
	}
	config, err := state.GetConfig(store)
	if err != nil {
		return nil, err
	}
	head, _, err := store.Block(copied.Blocks - 1)
	return &Backup{
		Version: backupVersion, NodeID: nodeID, NetworkID: config.NetworkID.String(),
		Height: head.Height, Header: head.Header.String(), Records: copied.Size, AppliedIndex: copied.AppliedIndex,
		Segments: copied.Segments, Packed: copied.Packed, Cold: copied.Cold, Dropped: copied.Dropped, TailBytes: copied.TailBytes,
	}, err
}

// serveBackup is the admin port's handler.
func (s *Service) serveBackup(w http.ResponseWriter, r *http.Request) {
	var have storage.Held
	for name, to := range map[string]*uint32{"have": &have.Segments, "packed": &have.Packed} {
		text := r.URL.Query().Get(name)
		if text == "" {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			http.Error(w, name+" is no number of segments", http.StatusBadRequest)
			return
		}
		*to = uint32(n)
	}
	w.Header().Set("Content-Type", "application/x-tar")
	to := bufio.NewWriterSize(&stalling{to: w, control: http.NewResponseController(w)}, backupChunk)
	err := backUp(r.Context(), s.store, s.config.NodeID, s.config.DataDir, have, to)
	if err == nil {
		err = to.Flush()
	}
	if err != nil {
		s.log.WarnContext(r.Context(), "a backup was not given whole", "error", err)
		panic(http.ErrAbortHandler) // the reader sees that the end is missing
	}
	s.log.InfoContext(r.Context(), "a backup was given", "segments_left_out", have.Segments)
}

// stalling gives each write its own deadline: a backup takes as long as it takes.
type stalling struct {
	to      io.Writer
	control *http.ResponseController
}

func (s *stalling) Write(b []byte) (int, error) {
	if err := s.control.SetWriteDeadline(time.Now().Add(backupStall)); err != nil {
		return 0, err
	}
	return s.to.Write(b)
}

// BackUpDirectory writes a backup of a stopped replica's data directory, upon the
// earlier one given as held, or nil; see
// ReceiveBackup for the other end. The error is a *reason.Error of DATA_LOSS if
// the directory is damaged.
func BackUpDirectory(ctx context.Context, dir string, held *Backup, to io.Writer) error {
	c := Config{DataDir: dir}
	store, err := storage.OpenReadOnly(c.storeDir(), storage.Options{})
	if err != nil {
		return fmt.Errorf("open %s: %w", dir, asReason(err))
	}
	have := storage.Held{Segments: held.FullSegments(), Packed: held.PackedSegments()}
	return errors.Join(backUp(ctx, store, "", dir, have, to), store.Close())
}

// HeldBackup is the backup that lies in a directory; nil if there is none. Its
// full segments need not be given again.
func HeldBackup(dir string) (*Backup, error) {
	text, err := os.ReadFile(filepath.Join(dir, backupManifest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	b := new(Backup)
	if err := json.Unmarshal(text, b); err != nil {
		return nil, fmt.Errorf("%s in %s: %w", backupManifest, dir, err)
	}
	if b.Version != backupVersion {
		return nil, fmt.Errorf("backup in %s has version %d, this program reads %d", dir, b.Version, backupVersion)
	}
	return b, nil
}

// FullSegments is how many segments of a backup, which may be nil, will never
// change but by being packed.
func (b *Backup) FullSegments() uint32 {
	if b == nil || b.Segments == 0 {
		return 0
	}
	return b.Segments - 1
}

// PackedSegments is how many of them will never change.
func (b *Backup) PackedSegments() uint32 {
	if b == nil {
		return 0
	}
	return b.Packed
}

// ReceiveBackup writes a backup's stream into a directory that is empty, or holds
// the earlier backup given as held. Interrupted at any point, it leaves the
// earlier backup as good as it was: segments only grow, packed ones have files of
// their own, and store.db, which says how much of which counts, takes its place at
// the end in one step. progress is
// told of the bytes that came; it may be nil.
func ReceiveBackup(dir string, held *Backup, from io.Reader, progress func(bytes int64)) (*Backup, error) {
	c := Config{DataDir: dir}
	if err := os.MkdirAll(filepath.Join(c.storeDir(), "segments"), 0o700); err != nil {
		return nil, err
	}
	fresh := filepath.Join(c.storeDir(), "store.db.new")
	var manifest *Backup
	in := tar.NewReader(from)
	for manifest == nil {
		header, err := in.Next()
		if err != nil {
			return nil, fmt.Errorf("the backup ends early: %w", err)
		}
		if header.Name == backupManifest {
			manifest = new(Backup)
			if err := json.NewDecoder(io.LimitReader(in, 1<<16)).Decode(manifest); err != nil {
				return nil, fmt.Errorf("%s: %w", backupManifest, err)
			}
			continue
		}
		segment, ok := storage.IsBackupName(header.Name)
		if !ok || header.Typeflag != tar.TypeReg {
			return nil, fmt.Errorf("a backup has no file %q", header.Name)
		}
		path := fresh
		if segment > 0 {
			path = filepath.Join(c.storeDir(), filepath.FromSlash(header.Name))
		}
		if err := receiveFile(path, header.Size, in, progress); err != nil {
			return nil, err
		}
	}
	if held != nil && (held.NetworkID != manifest.NetworkID || held.NodeID != manifest.NodeID) {
		return nil, fmt.Errorf("%s holds a backup of replica %q of network %s, this one is of %q of network %s", dir, held.NodeID, held.NetworkID, manifest.NodeID, manifest.NetworkID)
	}
	return manifest, settle(dir, c.storeDir(), fresh, manifest)
}

// receiveFile makes a file's content durable. What a segment holds already is
// what comes again, and more.
func receiveFile(path string, size int64, from io.Reader, progress func(int64)) (err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	buffer := make([]byte, backupChunk)
	for done := int64(0); done < size; {
		n, err := io.ReadFull(from, buffer[:min(int64(len(buffer)), size-done)])
		if err != nil {
			return fmt.Errorf("%s: %d of %d bytes came: %w", path, done+int64(n), size, err)
		}
		if _, err := file.Write(buffer[:n]); err != nil {
			return err
		}
		if done += int64(n); progress != nil {
			progress(int64(n))
		}
	}
	if err := file.Truncate(size); err != nil {
		return err
	}
	return file.Sync()
}

// settle puts a backup's store.db in its place and checks that all opens.
func settle(dir, storeDir, fresh string, manifest *Backup) error {
	if err := durable.SyncDir(filepath.Join(storeDir, "segments")); err != nil {
		return err
	}
	if err := os.Rename(fresh, filepath.Join(storeDir, "store.db")); err != nil {
		return err
	}
	if err := durable.SyncDir(storeDir); err != nil {
		return err
	}
	store, err := storage.OpenReadOnly(storeDir, storage.Options{})
	if err != nil {
		return fmt.Errorf("the backup does not open: %w", asReason(err))
	}
	defer store.Close() //nolint:errcheck // opened for reading.
	head, ok := store.Head()
	header, err := digest.Parse(manifest.Header)
	if err != nil {
		return fmt.Errorf("%s: header: %w", backupManifest, err)
	}
	if !ok || head.Height != manifest.Height || head.Header != header || store.AppliedIndex() != manifest.AppliedIndex {
		return fmt.Errorf("the backup says that it ends with block %d, header %s, entry %d; it ends with block %d, header %s, entry %d",
			manifest.Height, header.Short(), manifest.AppliedIndex, head.Height, head.Header.Short(), store.AppliedIndex())
	}
	for n := range manifest.Packed { // what an earlier backup brought
		names := []string{storage.PlainName(n + 1)}
		if n < max(manifest.Cold, manifest.Dropped) {
			names = append(names, storage.RawName(n+1))
		}
		for _, name := range names {
			err := os.Remove(filepath.Join(storeDir, filepath.FromSlash(name)))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	certificate, _, err := store.NewestCertificate()
	if err != nil {
		return asReason(err)
	}
	manifest.CertifiedHeight, manifest.LockedHeight = certificate.Height, store.Lock().Height
	text, err := json.MarshalIndent(manifest, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, backupManifest), append(text, '\n'), 0o600)
}
