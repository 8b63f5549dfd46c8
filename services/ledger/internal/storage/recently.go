package storage

import "container/list"

// recently keeps what was used last, up to a total weight. The zero value is
// empty. It is not safe for concurrent use.
type recently[K comparable, V any] struct {
	at     map[K]*list.Element
	order  list.List // of kept[K, V]; the front was used last
	weight int
}

type kept[K comparable, V any] struct {
	key    K
	value  V
	weight int
}

func (r *recently[K, V]) get(key K) (value V, ok bool) {
	e := r.at[key]
	if e == nil {
		return value, false
	}
	r.order.MoveToFront(e)
	return e.Value.(kept[K, V]).value, true //nolint:errcheck,forcetypeassert // the list holds nothing else.
}

// put keeps a value; what was used longest ago goes until all weigh at most limit.
func (r *recently[K, V]) put(key K, value V, weight, limit int) {
	if r.at == nil {
		r.at = make(map[K]*list.Element)
	}
	if e := r.at[key]; e != nil {
		r.drop(e)
	}
	r.at[key] = r.order.PushFront(kept[K, V]{key, value, weight})
	r.weight += weight
	for r.weight > limit && r.order.Len() > 0 {
		r.drop(r.order.Back())
	}
}

func (r *recently[K, V]) drop(e *list.Element) {
	k := r.order.Remove(e).(kept[K, V]) //nolint:errcheck,forcetypeassert // the list holds nothing else.
	delete(r.at, k.key)
	r.weight -= k.weight
}
