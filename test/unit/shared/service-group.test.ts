// Tests which control groups a process must leave so that it outlives the service, from the text in /proc. An
// endable group is one that systemd may end while the host goes on.
import { describe, expect, it } from 'vitest';
import { endableGroups, parseGroups, unitOf } from '../../../src/shared/host/service-group.ts';

const host = { systemd: '/init.scope', unified: '/init.scope' };

describe('the control groups of a process', () => {
  it('are read on a hybrid host', () => {
    const text =
      '3:memory:/system.slice/a.service\n1:name=systemd:/system.slice/a.service\n0::/system.slice/a.service\n';
    expect(parseGroups(text)).toEqual({ systemd: '/system.slice/a.service', unified: '/system.slice/a.service' });
  });

  it('are read if only version 2 or only version 1 is mounted', () => {
    expect(parseGroups('0::/user.slice\n')).toEqual({ unified: '/user.slice' });
    expect(parseGroups('1:name=systemd:/a:b\n')).toEqual({ systemd: '/a:b' });
    expect(parseGroups('')).toEqual({});
  });
});

describe('endableGroups', () => {
  it.each([
    ['a service', '/system.slice/boxrun.service', '/system.slice/boxrun.service'],
    ['a part of a service', '/system.slice/boxrun.service/main', '/system.slice/boxrun.service'],
    ['a login', '/user.slice/user-0.slice/session-3.scope', '/user.slice/user-0.slice/session-3.scope'],
    [
      'a service of a user',
      '/user.slice/user-7.slice/user@7.service/app.slice/boxrun.service',
      '/user.slice/user-7.slice/user@7.service/app.slice/boxrun.service',
    ],
    ['a group of another kind', '/runit/boxrun', '/runit/boxrun'],
  ])('finds the group of %s', (_what, own, endable) => {
    expect(endableGroups({ unified: own }, host)).toEqual({ unified: endable });
  });

  it.each([
    ['the top of a hierarchy', '/', '/init.scope'],
    ['a place outside of the own namespace', '/../other', '/'],
    ['the group of process 1', '/docker/abc', '/docker/abc'],
  ])('finds no group for %s', (_what, own, ofProcess1) => {
    expect(endableGroups({ systemd: own, unified: own }, { systemd: ofProcess1, unified: ofProcess1 })).toEqual({});
  });

  it('finds a group inside the container of process 1', () => {
    const container = '/system.slice/docker-abc.scope';
    expect(endableGroups({ unified: `${container}/app` }, { unified: `${container}/init` })).toEqual({
      unified: `${container}/app`,
    });
  });
});

describe('the systemd unit of a server', () => {
  it.each([
    ['/system.slice/boxrun.service', 0, { owner: 'system', unit: 'boxrun.service', slice: 'system.slice' }],
    ['/system.slice/boxrun.service', 7, { owner: 'system', unit: 'boxrun.service', slice: 'system.slice' }],
    ['/big.slice/boxrun.service/main', 0, { owner: 'system', unit: 'boxrun.service', slice: 'big.slice' }],
    [
      '/user.slice/user-7.slice/user@7.service/app.slice/boxrun.service',
      7,
      { owner: 'user', unit: 'boxrun.service', slice: 'app.slice' },
    ],
    ['/user.slice/user-7.slice/session-3.scope', 7, { owner: 'user', unit: null, slice: null }],
    ['/user.slice/user-0.slice/session-3.scope', 0, { owner: 'system', unit: null, slice: null }],
  ])('is found in %s for user %i', (unified, uid, expected) => {
    expect(unitOf({ unified }, uid)).toEqual(expected);
  });
});
