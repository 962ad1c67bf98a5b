package sparkplug

// memory keeps the nested messages of former decodes. What is taken is reset,
// and keeps the capacity of its slices.
type memory struct {
	meta      pool[MetaData]
	sets      pool[PropertySet]
	lists     pool[PropertySetList]
	dataSets  pool[DataSet]
	templates pool[Template]
}

func (m *memory) reset() {
	m.meta.used, m.sets.used, m.lists.used, m.dataSets.used, m.templates.used = 0, 0, 0, 0, 0
}

type pool[T any] struct {
	items []*T
	used  int
}

func (p *pool[T]) take() *T {
	if p.used == len(p.items) {
		p.items = append(p.items, new(T))
	}
	x := p.items[p.used]
	p.used++
	return x
}

// The messages that a decoder takes count as elements: a metric may name a
// table and a template by turns, and each turn takes one. The caller goes on
// when there are too many, and stops at the next field.

func (d *decoder) newMeta() *MetaData {
	d.one()
	m := d.memory.meta.take()
	*m = MetaData{}
	return m
}

func (d *decoder) newSet() *PropertySet {
	d.one()
	s := d.memory.sets.take()
	s.reset()
	return s
}

func (d *decoder) newList() *PropertySetList {
	d.one()
	l := d.memory.lists.take()
	l.Sets = l.Sets[:0]
	return l
}

func (d *decoder) newDataSet() *DataSet {
	d.one()
	s := d.memory.dataSets.take()
	*s = DataSet{Columns: s.Columns[:0], Types: s.Types[:0], Rows: s.Rows[:0]}
	return s
}

func (d *decoder) newTemplate() *Template {
	d.one()
	t := d.memory.templates.take()
	*t = Template{Members: t.Members[:0], Parameters: t.Parameters[:0]}
	return t
}

func (s *PropertySet) reset() { s.Keys, s.Values = s.Keys[:0], s.Values[:0] }

// more lengthens list by one element without clearing it.
func more[T any](list []T) []T {
	if len(list) < cap(list) {
		return list[:len(list)+1]
	}
	var zero T
	return append(list, zero)
}
