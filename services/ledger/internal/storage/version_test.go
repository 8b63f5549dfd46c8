package storage

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/lacre-metrology/lacre/core/reason"
	"go.etcd.io/bbolt"
)

// A directory that a later program wrote is left as it is, whatever else that
// program changed, and is not called damaged.
func TestALaterStoreIsRefusedAndLeftAlone(t *testing.T) {
	dir, _ := damageable(t)
	later := func(change func(value []byte) []byte, more ...string) {
		t.Helper()
		db, err := bbolt.Open(filepath.Join(dir, dbName), 0o600, nil)
		must(t, err)
		must(t, db.Update(func(tx *bbolt.Tx) error {
			for _, name := range more {
				added, err := tx.CreateBucketIfNotExists([]byte(name))
				if err != nil {
					return err
				}
				if err := added.Put([]byte("key"), []byte("value")); err != nil {
					return err
				}
			}
			value, err := tableMeta.get(tx, keyTip)
			if err != nil {
				return err
			}
			b, err := tableMeta.in(tx)
			if err != nil {
				return err
			}
			return tableMeta.put(b, keyTip, sealable(change(append([]byte{}, value...))))
		}))
		must(t, db.Close())
	}
	for name, change := range map[string]func([]byte) []byte{
		"the same form": func(v []byte) []byte { v[0] = tipVersion + 1; return v },
		"another form":  func([]byte) []byte { return []byte{200, 1, 2, 3} },
	} {
		later(change, "another table")
		stray := segmentPath(dir, 1<<20) // opening for writing removes it
		must(t, os.WriteFile(stray, []byte("of an interrupted commit"), 0o600))
		for _, open := range []func(string, Options) (*Store, error){Open, OpenReadOnly, OpenDamaged} {
			if _, err := open(dir, Options{}); reason.Of(err) != reason.UnsupportedVersion {
				t.Errorf("%s: %v, want %s", name, err, reason.UnsupportedVersion)
			}
		}
		if _, err := os.Stat(stray); err != nil {
			t.Errorf("%s: the directory was changed: %v", name, err)
		}
	}
}
