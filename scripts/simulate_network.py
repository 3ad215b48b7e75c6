"""Make the simulated dataset that ships with the suite (``benchmarks/data/simulated.npz``).

Everything in the file is SIMULATED: no sensor, road or incident in it exists. Two freeways cross
inside a quarter of a ring road, in a flat place put around latitude 0, longitude 0 (open sea). Each
of the 52 directed sections of 0.7 to 1.4 km carries one sensor; five-minute mean speeds in mph are
recorded for 28 days, 2024-01-01 (a Monday) to 2024-01-28.

The traffic is made by UXsim 1.15.1 (Seo, "UXsim: lightweight mesoscopic traffic flow simulator in
pure Python", JOSS 2025), C++ engine, one thread, about 5 minutes. It is needed to make the file
again, not to use it::

    pip install uxsim==1.15.1
    python scripts/simulate_network.py OUTPUT.npz

The scenario, drawn from ``SEED`` and the day alone (each day is a world of its own, begun at 23:30
the evening before and thrown away until midnight):

* Demand between 10 zones: morning trips to work, evening trips home, trips of other purposes;
  weekends have one flat hump. Days differ in volume, in the time of the peaks and by pair of zones.
* Supply: a few incidents a day cut the discharge of a section for 20 to 90 minutes; discharge
  fluctuates a little everywhere; wet spells, drift and density lower the speed that drivers choose.
* The sensor: the mean speed on the section over its platoons (of 5 vehicles) and steps of 7.5 s in
  five minutes, plus Gaussian noise of standard deviation sqrt(0.3^2 + 4^2 / n) mph, n the number of
  these samples (5 at least); kept to 0.1 mph.
* Gaps made on purpose: single readings (0.5 %), outages of one sensor for 1 to 8 hours (0.6 %) and
  two failures of the whole network (1 hour in all). A section without vehicles has no reading
  either, never a free-flow speed: hardly ever but at night on the ring (RN-03 and RS-02, 10 %).
  Together 1.7 % are missing.

The file holds ``tenths_of_mph`` as high and low byte, uint8 [2 n t] (a quarter smaller than as
uint16 [t n]), 65535 where missing; ``start``, ``sensors``, ``coordinates`` (latitude, longitude),
``distances`` (metres along the road, up to 8 km) and ``incidents`` (sensor, first step, step behind
the last). It is the same to the bit on one platform with one version of the simulator and numpy.
"""

import argparse
import math
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path

SEED = 20240101
START = "2024-01-01T00:00"
N_DAYS = 28
STEP = 300  # seconds
STEPS_PER_DAY = 288
WARM_UP = 6  # steps
MPH = 0.44704  # metres per second
METRES_PER_DEGREE = 6_371_000 * math.pi / 180  # on the sphere, at latitude 0
REACTION_TIME = 1.5  # seconds; with JAM_DENSITY a capacity of about 2050 vehicles / hour and lane
JAM_DENSITY = 0.14  # vehicles / metre and lane
PLATOON = 5  # vehicles that the simulator moves together
VOLUME = 28_500  # vehicles / hour that set out where a profile of the demand is 1
FARTHEST = 8000  # metres; longer ways between two sensors are left out of the file
MISSING = 65535  # code of a gap in the file

# zone: (homes, jobs), relative weights
ZONES = {
    "west": (1.5, 0.45),
    "east": (1.3, 0.40),
    "south": (1.3, 0.40),
    "north": (1.2, 0.45),
    "a2": (0.5, 0.6),
    "a4": (0.3, 1.2),
    "a8": (0.4, 1.0),
    "b3": (0.4, 0.9),
    "b7": (0.5, 0.8),
    "r3": (0.7, 0.7),
}


@dataclass
class Network:
    """Directed roads; ``sections``, the links with a sensor, are the first links."""

    nodes: dict[str, tuple[float, float]] = field(default_factory=dict)  # metres east, north
    links: dict[str, tuple[str, str, float, float, int]] = field(default_factory=dict)
    sections: list[str] = field(default_factory=list)

    def add(self, name: str, start: str, end: str, speed: float, lanes: int, bend: float) -> None:
        """A link from ``start`` to ``end``, ``bend`` times as long as the straight line."""
        length = bend * math.dist(self.nodes[start], self.nodes[end])
        self.links[name] = (start, end, length, speed, lanes)

    def road(self, name: str, heads: str, points: np.ndarray, lanes: list[int], mph: float) -> None:
        """Both carriageways of a road through ``points`` [k 2], 15 m to the right of its axis."""
        rng = np.random.default_rng([SEED, ord(name)])
        along = np.gradient(points, axis=0)
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        right = np.stack([along[:, 1], -along[:, 0]], axis=1)
        last = len(points) - 1
        for head, side in zip(heads, (1, -1), strict=True):
            for k, (x, y) in enumerate(points + 15 * side * right):
                self.nodes[f"{name}{head}{k}"] = (float(x), float(y))
            for k in range(last):
                start, end = (k, k + 1) if side == 1 else (last - k, last - k - 1)
                section = f"{name}{head}-{k + 1:02d}"
                speed = mph * MPH * rng.uniform(0.96, 1.04)
                ends = f"{name}{head}{start}", f"{name}{head}{end}"
                self.add(section, *ends, speed, lanes[min(start, end)], 1.02)
                self.sections.append(section)

    def zone(self, name: str, x: float, y: float, on: list[str], off: list[str]) -> None:
        """Where trips begin and end, joined by ramps that carry no sensor."""
        self.nodes[f"{name}.out"] = (x, y)
        self.nodes[f"{name}.in"] = (x + 1, y)
        lanes = 3 if len(on) == 1 else 2  # the end of a freeway, or ramps
        for node in on:
            self.add(f"{name}.out-{node}", f"{name}.out", node, 58 * MPH, lanes, 1.1)
        for node in off:
            self.add(f"{node}-{name}.in", node, f"{name}.in", 58 * MPH, lanes, 1.1)

    def local(self, name: str, road: str, heads: str, k: int) -> None:
        """A zone at an interchange around point k to k + 1: exits before it, entries behind it."""
        (x0, y0), (x1, y1) = (self.nodes[f"{road}{heads[0]}{i}"] for i in (k, k + 1))
        x, y = (x0 + x1) / 2 - 0.4 * (y1 - y0), (y0 + y1) / 2 + 0.4 * (x1 - x0)
        on = [f"{road}{heads[0]}{k + 1}", f"{road}{heads[1]}{k}"]
        off = [f"{road}{heads[0]}{k}", f"{road}{heads[1]}{k + 1}"]
        self.zone(name, x, y, on, off)


def build_network() -> Network:
    """Freeway A (west to east), freeway B (south to north), ring R in the north-east quarter."""
    net = Network()
    x = 10 * np.array([-660, -550, -445, -340, -230, -135, -50, 50, 145, 250, 370, 470, 570])
    y = 10 * np.array([-520, -400, -285, -175, -50, 50, 150, 260, 345, 430, 550])
    turn = np.linspace(0.18, math.pi / 2 - 0.18, 5)
    a = np.stack([x, 400 * np.sin(x / 3000)], axis=1)
    b = np.stack([300 * np.sin(y / 2500), y], axis=1)
    r = np.stack([3800 * np.cos(turn), 3900 * np.sin(turn)], axis=1)
    net.road("A", "EW", a, [3] * 3 + [4] * 6 + [3] * 3, 66)
    net.road("B", "NS", b, [3] * 2 + [4] * 5 + [3] * 3, 65)
    net.road("R", "NS", r, [2] * 4, 61)
    ends = {"west": ("AE0", "AW0"), "east": ("AW12", "AE12")}
    ends |= {"south": ("BN0", "BS0"), "north": ("BS10", "BN10")}
    for name, (on, off) in ends.items():
        px, py = net.nodes[on]
        net.zone(name, 1.06 * px, 1.06 * py, [on], [off])
    for name, road, heads, k in (
        ("a2", "A", "EW", 1),
        ("a4", "A", "EW", 3),
        ("a8", "A", "EW", 8),
        ("b3", "B", "NS", 2),
        ("b7", "B", "NS", 6),
        ("r3", "R", "NS", 2),
    ):
        net.local(name, road, heads, k)
    for leave, join in (
        (("AE6", "AW7"), ("BN5", "BS4")),
        (("BN4", "BS5"), ("AE7", "AW6")),
        (("AE9", "AW10"), ("RN0",)),
        (("RS0",), ("AE10", "AW9")),
        (("BN8", "BS9"), ("RS4",)),
        (("RN4",), ("BN9", "BS8")),
    ):
        for start, end in product(leave, join):
            net.add(f"{start}-{end}", start, end, 50 * MPH, 2, 1.2)
    return net


def positions(net: Network) -> np.ndarray:
    """Middle of each section, metres east and north, [n 2]."""
    ends = [[net.nodes[node] for node in net.links[s][:2]] for s in net.sections]
    middle: np.ndarray = np.mean(ends, axis=1)
    return middle


def road_distances(net: Network) -> np.ndarray:
    """Metres driven from sensor i to sensor j, [n n], inf where none leads there or too many."""
    index = {name: k for k, name in enumerate(net.nodes)}
    start = np.array([index[link[0]] for link in net.links.values()])
    end = np.array([index[link[1]] for link in net.links.values()])
    length = np.array([link[2] for link in net.links.values()])
    between = shortest_path(csr_array((length, (start, end)), shape=(len(index), len(index))))
    n = len(net.sections)
    half = length[:n] / 2
    metres: np.ndarray = half[:, None] + between[np.ix_(end[:n], start[:n])] + half[None, :]
    metres[metres > FARTHEST] = np.inf
    np.fill_diagonal(metres, 0)
    return metres


def bell(hour: np.ndarray, centre: float, width: float) -> np.ndarray:
    """Height 1 at ``centre``, by hour of the day."""
    height: np.ndarray = np.exp(-0.5 * ((hour - centre) / width) ** 2)
    return height


def demand(day: int, rng: np.random.Generator) -> np.ndarray:
    """Vehicles per step from zone to zone, [steps zone zone], warm-up first."""
    homes, jobs = np.array(list(ZONES.values())).T
    hour = (np.arange(-WARM_UP, STEPS_PER_DAY) + 0.5) / 12
    night = 0.09 + 0.05 * bell(hour, 24, 2.5) + 0.03 * bell(hour, 0, 1.5)
    shift = rng.normal(0, 0.12, 2)
    if day % 7 < 5:
        late = (0.97, 1.0, 1.0, 1.02, 1.07)[day % 7]
        to_work = 1.0 * bell(hour, 7.7 + shift[0], 0.95)
        to_home = 1.0 * late * bell(hour, 17.1 + shift[1], 1.35)
        other = 0.42 * bell(hour, 13.0, 4.2) + night
    else:
        to_work = 0.12 * bell(hour, 9.5 + shift[0], 2.0)
        to_home = 0.16 * bell(hour, 18.0 + shift[1], 2.2)
        other = (0.62, 0.55)[day % 7 - 5] * bell(hour, 14.2, 3.8) + 1.3 * night
    mixed = (homes + jobs) / 2
    shares = np.stack([np.outer(homes, jobs), np.outer(jobs, homes), np.outer(mixed, mixed)])
    for share in shares:
        np.fill_diagonal(share, 0)
        share /= share.sum()
    peaks = np.stack([to_work, to_home, other])
    level = rng.normal(1.0, 0.05) * rng.lognormal(0, 0.10, shares.shape[1:])
    trips: np.ndarray = VOLUME / 12 * np.einsum("pt,pij->tij", peaks, shares) * level
    return trips


@dataclass
class Supply:
    """What drivers meet on one day; steps begin with the warm-up."""

    speed: np.ndarray  # factor on the free speed, [steps n]
    discharge: np.ndarray  # factor on the capacity, [steps n]
    incidents: list[tuple[int, int, int]]  # sensor, first step, step behind the last


def drift(rng: np.random.Generator, shape: tuple[int, int], keep: float, size: float) -> np.ndarray:
    """First-order autoregression along time with standard deviation ``size``, [steps k]."""
    shock = rng.normal(0, size * math.sqrt(1 - keep**2), shape)
    shock[0] = rng.normal(0, size, shape[1])
    for t in range(1, shape[0]):
        shock[t] += keep * shock[t - 1]
    return shock


def draw_supply(rng: np.random.Generator, n: int) -> Supply:
    """Wet spells, slow drifts, unsteady discharge and incidents."""
    steps = WARM_UP + STEPS_PER_DAY
    speed = 1 + drift(rng, (steps, n), 0.97, 0.008) + drift(rng, (steps, 1), 0.99, 0.006)
    discharge = np.clip(1.02 + drift(rng, (steps, n), 0.7, 0.05), 0.85, 1.3)
    if rng.random() < 0.3:
        middle, half, loss = rng.uniform(0, 24), rng.uniform(1.5, 4), rng.uniform(0.04, 0.11)
        hour = (np.arange(steps) - WARM_UP) / 12
        wet = 1 / (1 + np.exp((np.abs(hour - middle) - half) / 0.3))
        speed *= 1 - loss * wet[:, None]
        discharge *= 1 - 0.6 * loss * wet[:, None]
    incidents = []
    for _ in range(rng.poisson(2.5)):
        sensor, length = int(rng.integers(n)), int(rng.integers(4, 19))
        first = WARM_UP + int(np.clip(rng.normal(13.5, 4.5), 1, 22) * 12)
        hit = slice(first, first + length)
        discharge[hit, sensor] = rng.uniform(0.15, 0.5)
        speed[hit, sensor] *= rng.uniform(0.6, 0.85)
        incidents.append((sensor, first - WARM_UP, first - WARM_UP + length))
    return Supply(speed, discharge, incidents)


def build_world(net: Network, seed: int) -> Any:
    """The simulator's world with the roads in it and no traffic."""
    from uxsim import World  # type: ignore[import-not-found, unused-ignore]

    world = World(
        "simulated",
        deltan=PLATOON,
        reaction_time=REACTION_TIME,
        duo_update_time=STEP,
        duo_update_weight=0.3,
        instantaneous_TT_timestep_interval=1,
        tmax=(WARM_UP + STEPS_PER_DAY + 12) * STEP,  # longer than is run: no closing analysis
        vehicle_logging_timestep_interval=1,
        random_seed=seed,
        print_mode=0,
        save_mode=0,
        cpp=True,
    )
    for name, (x, y) in net.nodes.items():
        world.addNode(name, x, y)
    for name, (start, end, length, speed, lanes) in net.links.items():
        world.addLink(
            name,
            start,
            end,
            length=length,
            free_flow_speed=speed,
            jam_density_per_lane=JAM_DENSITY,
            number_of_lanes=lanes,
            merge_priority=lanes,
        )
    return world


def send_off(world: Any, trips: np.ndarray, begin: float, rng: np.random.Generator) -> None:
    """Platoons of one step, Poisson in number and uniform in time."""
    names = list(ZONES)
    platoons = rng.poisson(trips / PLATOON)
    pairs = np.repeat(np.argwhere(platoons), platoons[platoons > 0], axis=0)
    times = begin + rng.uniform(0, STEP, len(pairs))
    order = np.argsort(times)
    for (i, j), at in zip(pairs[order], times[order], strict=True):
        world.addVehicle(f"{names[i]}.out", f"{names[j]}.in", float(at))


def run_day(net: Network, day: int) -> tuple[np.ndarray, np.ndarray, Supply]:
    """Mean speed in mph (NaN: nobody there) and its samples, both [288 n], and the supply."""
    rng = np.random.default_rng([SEED, day])
    trips, supply = demand(day, rng), draw_supply(rng, len(net.sections))
    world = build_world(net, int(rng.integers(2**31)))
    links = [world.get_link(s) for s in net.sections]
    free = np.array([link.u for link in links])
    capacity = np.array([link.capacity for link in links])
    critical = capacity / free  # vehicles / metre
    for t in range(WARM_UP + STEPS_PER_DAY):
        send_off(world, trips[t], t * STEP, rng)
        crowd = np.array([link.density for link in links]) / critical
        chosen = free * supply.speed[t] * (1 - 0.07 * np.minimum(crowd, 1) ** 2)
        for link, u, out in zip(links, chosen, capacity * supply.discharge[t], strict=True):
            link.change_free_flow_speed(u)
            link.capacity_out = out
        world.exec_simulation(duration_t2=STEP)
    speed, samples = observe(world, len(links))
    return speed, samples, supply


def observe(world: Any, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean speed in mph over vehicles and simulator steps, and such samples, both [288 n].

    The simulator cuts a platoon's last move on a section short, at its end: a move that ends there
    says nothing of the speed. The logs of all platoons at once come from the engine itself.
    """
    log = world._cpp_world.build_all_vehicle_logs_flat_compact()
    sensor, step = log["log_link"], (log["log_t"] // STEP).astype(int) - WARM_UP
    length = np.array([link.length for link in world.LINKS])
    kept = (sensor >= 0) & (sensor < n) & (step >= 0) & (step < STEPS_PER_DAY)
    kept &= log["log_x"] < length[sensor] - 1e-6
    cell = step[kept] * n + sensor[kept]
    samples = np.bincount(cell, minlength=STEPS_PER_DAY * n)
    total = np.bincount(cell, log["log_v"][kept], minlength=STEPS_PER_DAY * n)
    mean = total / np.where(samples > 0, samples, np.nan) / MPH
    return mean.reshape(-1, n), samples.reshape(-1, n)


def add_noise(speed: np.ndarray, samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The sensor's error; a mean over few vehicles is less certain."""
    spread = np.sqrt(0.3**2 + 4.0**2 / np.maximum(samples, PLATOON))
    noisy: np.ndarray = np.clip(speed + rng.normal(0, 1, speed.shape) * spread, 1.0, 85.0)
    return noisy


def gaps(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """True where the sensor delivered nothing, [t n]."""
    t, n = shape
    lost = rng.random(shape) < 0.005
    for _ in range(round(0.006 * t * n / 54)):
        first, sensor = rng.integers(t), rng.integers(n)
        lost[first : first + rng.integers(12, 97), sensor] = True
    for first in rng.integers(t, size=2):
        lost[first : first + rng.integers(3, 8)] = True
    return lost


def simulate(n_days: int) -> dict[str, np.ndarray]:
    """The arrays of the file."""
    net = build_network()
    days = []
    # The engine never frees a world (1.6 GB), so each day gets a process, one after the other.
    with get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        for day in pool.imap(partial(run_day, net), range(n_days)):
            days.append(day)
            print(f"day {len(days)} of {n_days}: {np.nanmean(day[0]):.1f} mph", flush=True)
    rng = np.random.default_rng([SEED, 10_000])
    speed = add_noise(
        np.concatenate([d[0] for d in days]), np.concatenate([d[1] for d in days]), rng
    )
    lost = gaps(speed.shape, rng) | np.isnan(speed)
    tenths = np.where(lost, MISSING, np.round(10 * np.nan_to_num(speed))).astype(np.uint16)
    incidents = [
        (sensor, first + STEPS_PER_DAY * d, behind + STEPS_PER_DAY * d)
        for d, (_, _, supply) in enumerate(days)
        for sensor, first, behind in supply.incidents
    ]
    return {
        "tenths_of_mph": np.stack([tenths.T >> 8, tenths.T & 255]).astype(np.uint8),
        "start": np.array(START),
        "sensors": np.array(net.sections),
        "coordinates": positions(net)[:, ::-1] / METRES_PER_DEGREE,
        "distances": road_distances(net).astype(np.float32),
        "incidents": np.array(incidents, dtype=np.int32).reshape(-1, 3),
    }


def main() -> None:
    """Write the file named on the command line."""
    parser = argparse.ArgumentParser(description="Simulate the dataset that ships with the suite.")
    parser.add_argument("output", type=Path)
    parser.add_argument("--days", type=int, default=N_DAYS, help="fewer than 28, for a trial")
    options = parser.parse_args()
    arrays: dict[str, Any] = simulate(options.days)
    np.savez_compressed(options.output, **arrays)


if __name__ == "__main__":
    main()
