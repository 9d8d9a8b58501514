%% @doc The benchmarks' frame: which sections run, in rounds that interleave what
%% is compared, and one line of JSON for every figure. script/bench starts it.
-module(bench).

-export([main/0, build/1, compare/4, percentile/2, report/5, rounds/1, scale/2, source/1]).
-export_type([context/0, result/0, series/0]).

%% `flags' names the flags of the emulator, `x' is where on a plot's axis the
%% figures lie, `warm' says whether each series runs once uncounted first, and
%% `rounds' how many rounds there are where five are too few.
-type context() :: #{
    build := file:filename(),
    source := file:filename(),
    flags := string(),
    out := file:io_device(),
    quick := boolean(),
    x => number(),
    warm => boolean(),
    rounds => pos_integer()
}.
-type result() :: number() | [{Unit :: string(), number()}].
-type series() :: {Name :: atom(), fun(() -> result())}.

%% @doc Arguments: the directory of what was built, that of the sources, the
%% name of the flags that the node runs with, the file for the figures, `full'
%% or `quick', and the sections.
-spec main() -> no_return().
main() ->
    [Build, Source, Flags, Out, Mode | Sections] = init:get_plain_arguments(),
    {ok, Device} = file:open(Out, [append, raw]),
    Context = #{
        build => Build, source => Source, flags => Flags, out => Device, quick => Mode =:= "quick"
    },
    try
        start(Context),
        [section(list_to_atom(Name), Context) || Name <- Sections],
        halt(0)
    catch
        Class:Reason:Stack ->
            io:format(standard_error, "~p:~p~n~p~n", [Class, Reason, Stack]),
            halt(1)
    end.

%% Two pools of one worker each: Python, and the native writer in its place.
start(Context) ->
    ok = application:load(erlang_python),
    ok = application:set_env(erlang_python, pools, #{}),
    {ok, _} = application:ensure_all_started(erlang_python),
    ok = logger:set_primary_config(level, critical),
    {ok, _} = bench_pool:start(python, #{}, Context),
    {ok, _} = bench_pool:start(native, #{}, Context),
    bench_os:check_clock(),
    Versions = #{
        load => bench_os:load(),
        otp => erlang:system_info(otp_release),
        erts => erlang:system_info(version),
        python => python_says(<<"__import__('platform').python_version()">>),
        erlpack => python_says(<<"__import__('importlib.metadata').metadata.version('erlpack')">>),
        writer => atom_to_list(maps:get(writer, maps:get(python, py:info(python))))
    },
    maps:foreach(fun(Name, V) -> report(versions, Name, #{}, V, Context) end, Versions).

python_says(Code) ->
    case py:eval(Code, #{}, #{pool => python}) of
        {ok, Text} -> binary_to_list(Text);
        {error, _} -> "none"
    end.

section(Name, Context) ->
    Modules = [bench_rates, bench_latency, bench_many, bench_memory, bench_growth, bench_cost, bench_interop, bench_types, bench_ways],
    case [M || M <- Modules, lists:member(Name, M:sections())] of
        [Module] ->
            io:format("~n== ~s, flags ~s~n", [Name, maps:get(flags, Context)]),
            Module:run(Name, Context);
        [] ->
            error({no_such_section, Name, lists:append([M:sections() || M <- Modules])})
    end.

%% @doc Where the sources are.
-spec source(context()) -> file:filename().
source(#{source := Source}) -> Source.

%% @doc Where the native programs are.
-spec build(context()) -> file:filename().
build(#{build := Build}) -> Build.

%% @doc How many rounds a figure is the median of.
-spec rounds(context()) -> pos_integer().
rounds(Context = #{quick := true}) -> maps:get(rounds, Context, 5) * 3 div 5;
rounds(Context = #{quick := false}) -> maps:get(rounds, Context, 5).

%% @doc A count, or a quarter of it where it has to be quick.
-spec scale(pos_integer(), context()) -> pos_integer().
scale(N, #{quick := true}) -> max(1, N div 4);
scale(N, #{quick := false}) -> N.

%% @doc Measures each series once in every round, in changing order, so that what
%% disturbs the machine disturbs all of them. The first series is the ceiling. A
%% series returns one value in `Unit', or several, each with its unit.
-spec compare(atom(), string(), [series()], context()) -> ok.
compare(Section, Unit, Series, Context) ->
    _ = [Fun() || maps:get(warm, Context, true), {_, Fun} <- Series],
    Rounds = [one_round(N, Section, Unit, Series, Context) || N <- lists:seq(1, rounds(Context))],
    [{Ceiling, _} | _] = Series,
    io:format("   ~s~s~n", [Section, place(Context)]),
    Units = lists:usort([U || Round <- Rounds, {{_, U}, _} <- Round]),
    [summary(Name, U, Ceiling, Rounds) || U <- Units, {Name, _} <- Series],
    ok.

place(#{x := X}) -> io_lib:format(" at ~p", [X]);
place(#{}) -> "".

one_round(N, Section, Unit, Series, Context) ->
    {Before, After} = lists:split(N rem length(Series), Series),
    lists:append([
        [
            begin
                report(Section, Name, #{round => N, unit => U}, Value, Context),
                {{Name, U}, Value}
            end
         || {U, Value} <- values(Fun(), Unit)
        ]
     || {Name, Fun} <- After ++ Before
    ]).

values(Values, _Unit) when is_list(Values) -> Values;
values(Value, Unit) -> [{Unit, Value}].

summary(Name, Unit, Ceiling, Rounds) ->
    Values = [V || Round <- Rounds, {Key, V} <- Round, Key =:= {Name, Unit}],
    Values =:= [] orelse
        io:format("~-24s ~12s ~-21s~s~n", [
            Name, number(percentile(50, Values)), Unit, ratio(Name, Unit, Ceiling, Rounds)
        ]).

%% Growth, costs and ratios are not shares of anything.
ratio(_Name, "us of" ++ _, _Ceiling, _Rounds) -> "";
ratio(_Name, "us by" ++ _, _Ceiling, _Rounds) -> "";
ratio(_Name, "MiB" ++ _, _Ceiling, _Rounds) -> "";
ratio(_Name, "last of" ++ _, _Ceiling, _Rounds) -> "";
ratio(Name, Unit, Ceiling, Rounds) ->
    Pairs = [{keyfind({Name, Unit}, R), keyfind({Ceiling, Unit}, R)} || R <- Rounds],
    case [V / Best || {V, Best} <- Pairs, is_number(V), is_number(Best), Best > 0] of
        [] -> "";
        Ratios -> io_lib:format(" ~6.2f of ~s", [percentile(50, Ratios), Ceiling])
    end.

keyfind(Key, Round) -> proplists:get_value(Key, Round).

number(V) when is_integer(V); abs(V) >= 1000 -> integer_to_list(round(V));
number(V) -> float_to_list(float(V), [{decimals, 3}, compact]).

%% @doc Writes a figure down. `Extra' may hold whatever else places it.
-spec report(atom(), atom(), map(), number() | string(), context()) -> ok.
report(Section, Series, Extra, Value, Context = #{out := Out}) ->
    Own = #{section => Section, series => Series, value => Value},
    Fields = maps:merge(maps:merge(maps:with([flags, x], Context), Own), Extra),
    Json = [[$", atom_to_list(K), "\": ", json(V)] || {K, V} <- maps:to_list(Fields)],
    ok = file:write(Out, [${, lists:join(", ", Json), "}\n"]).

json(V) when is_integer(V) -> integer_to_list(V);
json(V) when is_float(V) -> float_to_list(V, [{decimals, 6}, compact]);
json(V) when is_atom(V) -> [$", atom_to_list(V), $"];
json(V) -> [$", V, $"].

%% @doc The value below which that many of a hundred are.
-spec percentile(number(), [number(), ...]) -> number().
percentile(P, Values) ->
    Sorted = lists:sort(Values),
    lists:nth(max(1, ceil(P * length(Sorted) / 100)), Sorted).
