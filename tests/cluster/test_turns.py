"""Who gets the GPUs, and that nobody starves; no Ray, no engine, a clock that only moves when told to."""

import asyncio

from local_fusion.cluster.turns import Demand, TurnRules, TurnTaker, next_group

RULES = TurnRules(linger_s=0.05, patience_s=60.0)
IDLE = Demand()


def test_the_awake_group_keeps_the_turn_while_it_has_work():
    assert next_group(0, [Demand(waiting=1), Demand(waiting=500)], RULES) is None
    assert next_group(0, [Demand(under_way=1), Demand(waiting=500)], RULES) is None


def test_nothing_happens_where_nobody_waits():
    assert next_group(0, [IDLE, IDLE], RULES, idle_s=1000.0) is None


def test_an_idle_group_lingers_then_yields_to_the_one_with_most_waiting():
    demands = [IDLE, Demand(waiting=3, oldest_s=5.0), Demand(waiting=9, oldest_s=1.0)]
    assert next_group(0, demands, RULES, idle_s=0.01) is None
    assert next_group(0, demands, RULES, idle_s=0.06) == 2


def test_one_that_starves_goes_first():
    demands = [IDLE, Demand(waiting=1, oldest_s=61.0), Demand(waiting=900, oldest_s=30.0)]
    assert next_group(0, demands, RULES, idle_s=1.0) == 1


def test_a_busy_group_yields_to_one_that_starves_after_a_turn_of_its_own():
    demands = [Demand(waiting=100, under_way=10), Demand(waiting=1, oldest_s=61.0)]
    assert next_group(0, demands, RULES, turn_s=10.0) is None
    assert next_group(0, demands, RULES, turn_s=61.0) == 1


class Fake:
    """A group whose calls take no time once it is awake and let in."""

    awake = 0

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log
        self.queue = 0
        self.open = False

    def demand(self) -> Demand:
        if self.open:
            self.log.extend([self.name] * self.queue)
            self.queue = 0
        return Demand(waiting=self.queue)

    def hold(self) -> None:
        self.open = False

    async def sleep(self) -> None:
        Fake.awake -= 1

    async def wake(self) -> None:
        Fake.awake += 1
        assert Fake.awake == 1
        self.open = True


async def test_each_group_is_served_and_one_is_awake_at_a_time():
    log: list[str] = []
    troupes = [Fake(name, log) for name in "abc"]
    Fake.awake, troupes[0].open = 1, True
    taker = TurnTaker(troupes, TurnRules(linger_s=0.002))
    taker.start()
    for troupe in troupes:
        troupe.queue = 20
    taker.poke()
    async with asyncio.timeout(10):
        while len(log) < 60:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    await taker.stop()
    assert sorted(log) == sorted("abc" * 20)
    assert taker.swaps == 2


class Stuck(Fake):
    """Cannot give its GPUs back the first time."""

    fails = 1

    async def sleep(self) -> None:
        if self.fails:
            self.fails -= 1
            raise ConnectionResetError("the host went away")
        await super().sleep()

    async def wake(self) -> None:
        self.open = True


async def test_a_group_that_cannot_sleep_is_let_in_again_and_turns_go_on():
    log: list[str] = []
    stuck, other = Stuck("a", log), Fake("b", log)
    Fake.awake, stuck.open = 1, True
    taker = TurnTaker([stuck, other], TurnRules(linger_s=0.002))
    taker.start()
    other.queue = 5
    taker.poke()
    async with asyncio.timeout(10):
        while stuck.fails or not stuck.open:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        stuck.queue = 5
        while len(log) < 10:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    await taker.stop()
    assert sorted(log) == sorted("aaaaabbbbb")
    assert taker.swaps == 1
