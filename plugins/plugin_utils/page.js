/* Copyright (c) The xen.stubdom authors
 * GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later */
'use strict';
(() => {
  // All text gets into the page as text: nothing here makes HTML of a string.
  const data = JSON.parse(document.getElementById('data').textContent);
  const RANK = { critical: 0, warning: 1, notice: 2 };
  const PLACES = {
    none: 'none', stub_domain: 'stub domain', dom0_root: 'dom0, as root', dom0_user: 'dom0, unprivileged',
    unknown: 'not found',
  };
  const BOOTS = {
    pvgrub_legacy: 'PV-GRUB (legacy)', pvgrub_grub2: 'PV-GRUB (GRUB 2)', pygrub: 'pygrub in dom0',
    bootloader: 'program in dom0', kernel: 'kernel in dom0', firmware: 'own firmware',
  };
  const STEP = 200;

  const make = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const worst = (guest) => Math.min(9, ...guest.troubles.map(([kind]) => RANK[data.troubles[kind][0]]));
  const place = (guest) => PLACES[guest.place] + (guest.flavour ? ` (${guest.flavour})` : '');

  // label, what is sorted by, what is shown
  const COLUMNS = {
    name: ['Guest', (guest) => guest.name.toLowerCase()],
    host: ['Host', (guest) => guest.host],
    state: ['State', (guest) => guest.state],
    type: ['Type', (guest) => guest.type || ''],
    boot: ['Boots by', (guest) => BOOTS[guest.boot] || ''],
    place: ['Device model', place],
    memory_mib: ['Memory', (guest) => guest.memory_mib || 0],
    findings: ['Findings', worst],
  };
  const FILTERS = {
    host: ['Host', (guest) => [guest.host], (value) => value],
    state: ['State', (guest) => [guest.state], (value) => value],
    type: ['Type', (guest) => [guest.type || ''], (value) => value || 'not known'],
    boot: ['Boots by', (guest) => [guest.boot || ''], (value) => BOOTS[value] || 'not known'],
    place: ['Device model', (guest) => [guest.place], (value) => PLACES[value]],
    trouble: ['Finding', (guest) => guest.troubles.map(([kind]) => kind), (value) => data.troubles[value][1]],
  };

  const state = { q: '', sort: 'findings', open: '', shown: STEP };
  const text = (guest) => {
    if (guest.text === undefined) {
      guest.text = [guest.name, guest.host, guest.state, guest.type, BOOTS[guest.boot], place(guest), guest.config,
        ...guest.troubles.map(([kind]) => data.troubles[kind][1])].join(' ').toLowerCase();
    }
    return guest.text;
  };
  const identity = (guest) => `${guest.host} ${guest.name}`;

  // ---- permalinks: #guests?trouble=pygrub&sort=-memory_mib

  const parse = () => {
    const [section, query = ''] = location.hash.slice(1).split('?');
    const asked = new URLSearchParams(query || (section.includes('=') ? section : ''));
    for (const key of [...Object.keys(FILTERS), 'q', 'open']) state[key] = asked.get(key) || '';
    const sort = asked.get('sort') || 'findings';
    state.sort = sort.replace(/^-/, '') in COLUMNS ? sort : 'findings';
    state.shown = STEP;
    return section.includes('=') ? 'hosts' : section;
  };
  const store = () => {
    const asked = new URLSearchParams();
    for (const key of [...Object.keys(FILTERS), 'q', 'open']) if (state[key]) asked.set(key, state[key]);
    if (state.sort !== 'findings') asked.set('sort', state.sort);
    history.replaceState(null, '', `#guests?${asked}`);
  };

  // ---- hosts

  const hostTable = document.getElementById('host-table');
  const hostRows = hostTable ? [...hostTable.tBodies[0].rows] : [];
  const filterHosts = (ofGuests) => {
    for (const row of hostRows) {
      const found = ofGuests.has(row.dataset.host) || row.textContent.toLowerCase().includes(state.q.toLowerCase());
      row.hidden = !found || Boolean(state.host && row.dataset.host !== state.host);
    }
  };
  const order = new Intl.Collator('en', { numeric: true });
  const compare = (one, other) => {
    if (typeof one === 'number' && typeof other === 'number') return one - other;
    const numbers = one !== '' && other !== '' && !Number.isNaN(Number(one)) && !Number.isNaN(Number(other));
    return numbers ? one - other : order.compare(one, other);
  };
  const direct = (header, descending) => {
    for (const other of header.parentNode.children) other.setAttribute('aria-sort', 'none');
    header.setAttribute('aria-sort', descending ? 'descending' : 'ascending');
  };
  if (hostTable) {
    [...hostTable.tHead.rows[0].cells].forEach((header, column) => {
      header.firstChild.addEventListener('click', () => {
        const descending = header.getAttribute('aria-sort') === 'ascending';
        direct(header, descending);
        const sorted = hostRows.slice().sort((one, other) =>
          compare(one.cells[column].dataset.sort, other.cells[column].dataset.sort) * (descending ? -1 : 1));
        hostTable.tBodies[0].append(...sorted);
      });
    });
  }

  // ---- guests

  const table = document.getElementById('guest-table');
  const body = table.tBodies[0];
  const more = document.getElementById('more');
  const count = document.getElementById('count');

  const box = (kind, name, ...lines) =>
    make('span', { class: `box ${kind}` }, make('b', {}, name), ...lines.map((line) => make('small', {}, line)));
  const serves = (guest) => {
    const stub = guest.stub_domain;
    const served = {
      stub_domain: () => [
        box('stub', stub ? stub.name : 'stub domain',
          stub ? `domain ${stub.domid}, ${stub.memory_mib} MiB` : guest.domid ? 'not among the domains of the host' : 'when the guest runs',
          `QEMU in a domain of its own (${guest.flavour})`),
        box('control', 'dom0', 'a QEMU for consoles; disks and network'),
      ],
      dom0_root: () => [box('root', 'QEMU in dom0, as root', 'whoever breaks out of it has the host')],
      dom0_user: () => [box('user', 'QEMU in dom0, unprivileged', 'a process beside all others of dom0')],
      unknown: () => [box('root', 'no device model found', 'look at the log of its QEMU')],
    }[guest.place]();
    const words = served.map((one) => one.firstChild.textContent).join(', then ');
    const picture = make('p', { class: 'serves', role: 'img', 'aria-label': `${guest.name} is served by ${words}` },
      box('guest', guest.name, guest.domid ? `domain ${guest.domid}` : 'does not run'));
    for (const one of [...served, box('', 'Xen', guest.host)]) picture.append(make('span', {}, '→'), one);
    return picture;
  };
  const detail = (guest) => {
    const cell = make('td', { colspan: Object.keys(COLUMNS).length });
    if (guest.type === 'hvm') cell.append(serves(guest));
    const screens = (guest.screens || []).map((one) =>
      `${one.kind} on ${one.listen}${one.port ? `, port ${one.port}` : ''}, ${one.password ? 'with' : 'without'} a password`);
    const rows = [
      ['Configuration', guest.config || 'none'],
      ['Started', guest.started || ''],
      ['Starts with the host', guest.autostart ? `yes, as number ${guest.autostart}` : 'no'],
      ['Screens', screens.join('; ') || 'none'],
      ['Image', guest.image ? `${guest.image.path}, written ${guest.image.written}` : ''],
      ['Save and migrate', guest.cannot_save ? `no: ${guest.cannot_save}` : 'nothing known that forbids it'],
      ...guest.troubles.map(([kind, sentence]) => [data.troubles[kind][0], `${sentence} ${data.troubles[kind][2]}`]),
    ];
    const list = make('dl');
    for (const [term, value] of rows) if (value) list.append(make('dt', {}, term), make('dd', {}, value));
    cell.append(list);
    return make('tr', { class: 'detail' }, cell);
  };
  const row = (guest) => {
    const open = state.open === identity(guest);
    const button = make('button', { type: 'button', 'aria-expanded': String(open) }, guest.name);
    button.addEventListener('click', () => {
      state.open = state.open === identity(guest) ? '' : identity(guest);
      store();
      draw();
      body.querySelector('[aria-expanded=true]')?.focus();
    });
    const badges = guest.troubles.map(([kind, sentence]) =>
      make('span', { class: `badge ${data.troubles[kind][0]}`, title: sentence }, kind.replaceAll('_', ' ')));
    const shown = {
      name: button, host: guest.host, state: guest.state + (guest.stale ? ' (last known)' : ''), type: guest.type || '',
      boot: BOOTS[guest.boot] || '', place: place(guest), memory_mib: guest.memory_mib ?? '',
      findings: make('span', {}, ...badges.flatMap((badge) => [badge, ' '])),
    };
    const cells = Object.entries(COLUMNS).map(([key, [label]]) => make('td', { 'data-label': label }, shown[key]));
    const main = make('tr', guest.stale ? { class: 'stale' } : {}, ...cells);
    return open ? [main, detail(guest)] : [main];
  };

  const selected = () => data.guests.filter((guest) =>
    text(guest).includes(state.q.toLowerCase())
    && Object.entries(FILTERS).every(([key, [, values]]) => !state[key] || values(guest).includes(state[key])));
  const draw = () => {
    const descending = state.sort.startsWith('-');
    const by = COLUMNS[state.sort.replace(/^-/, '')][1];
    const keys = new Map(data.guests.map((guest) => [guest, by(guest)]));
    const found = selected().sort((one, other) =>
      compare(keys.get(one), keys.get(other)) * (descending ? -1 : 1));
    // What is asked for by name is shown, however far down it is.
    const at = found.findIndex((guest) => identity(guest) === state.open);
    const shown = Math.max(state.shown, at + 1);
    body.replaceChildren(...found.slice(0, shown).flatMap(row));
    count.textContent = `${found.length} of ${data.guests.length} guests`;
    more.hidden = found.length <= shown;
    filterHosts(new Set(state.q ? found.map((guest) => guest.host) : []));
  };

  const header = make('tr');
  for (const [key, [label]] of Object.entries(COLUMNS)) {
    const button = make('button', { type: 'button' }, label);
    const cell = make('th', { scope: 'col', 'aria-sort': 'none' }, button);
    button.addEventListener('click', () => {
      state.sort = state.sort === key ? `-${key}` : key;
      direct(cell, state.sort.startsWith('-'));
      store();
      draw();
    });
    header.append(cell);
  }
  table.tHead.append(header);

  const filters = document.getElementById('filters');
  const selects = {};
  for (const [key, [label, values, word]] of Object.entries(FILTERS)) {
    const select = make('select', {}, make('option', { value: '' }, 'all'));
    const found = [...new Set(data.guests.flatMap(values))].sort((one, other) => compare(one, other));
    for (const value of found) if (value) select.append(make('option', { value }, word(value)));
    select.addEventListener('change', () => { state[key] = select.value; state.shown = STEP; store(); draw(); });
    selects[key] = select;
    filters.append(make('label', {}, label, select));
  }
  const reset = make('button', { type: 'button' }, 'Show all');
  reset.addEventListener('click', () => { location.hash = '#guests'; });
  filters.append(reset);
  filters.addEventListener('submit', (event) => event.preventDefault());

  const search = document.getElementById('q');
  let waiting = 0;
  search.addEventListener('input', () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { state.q = search.value; state.shown = STEP; store(); draw(); }, 120);
  });
  more.addEventListener('click', () => { state.shown += STEP; draw(); });

  const go = () => {
    const section = parse();
    search.value = state.q;
    for (const [key, select] of Object.entries(selects)) select.value = state[key];
    const index = Object.keys(COLUMNS).indexOf(state.sort.replace(/^-/, ''));
    direct(header.children[index], state.sort.startsWith('-'));
    draw();
    const target = document.getElementById(section);
    if (target instanceof HTMLDetailsElement) target.open = true;
    (body.querySelector('[aria-expanded=true]') || target)?.scrollIntoView();
  };
  addEventListener('hashchange', go);
  go();
})();
